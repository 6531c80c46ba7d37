// SPDX-License-Identifier: MIT
// Tries a backend by the laws that every disk has to keep, on a simulated driver: no root, no
// kernel module, no waiting. Break a line of it and see what the laws say.
#include <ublk/sim/laws.hpp>

#include <cstring>
#include <map>
#include <mutex>
#include <vector>

/// A sparse disk: only blocks that were written take memory.
class sparse_disk {
public:
    static constexpr std::uint32_t logical_block_size = 4096;

    std::uint64_t size() const noexcept { return 1 << 20; }

    ublk::result read(const ublk::request& r, std::span<std::byte> out) {
        const std::lock_guard guard{mutex_};  // queues call at the same time
        for (std::size_t at = 0; at < out.size(); at += logical_block_size) {
            const auto block = blocks_.find(r.offset() + at);
            if (block == blocks_.end()) {
                std::memset(&out[at], 0, logical_block_size);
            } else {
                std::memcpy(&out[at], block->second.data(), logical_block_size);
            }
        }
        return ublk::ok;
    }

    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        const std::lock_guard guard{mutex_};
        for (std::size_t at = 0; at < in.size(); at += logical_block_size) {
            const auto block = in.subspan(at, logical_block_size);
            blocks_[r.offset() + at].assign(block.begin(), block.end());
        }
        return ublk::ok;
    }

    ublk::result discard(const ublk::request& r) {
        const std::lock_guard guard{mutex_};
        blocks_.erase(blocks_.lower_bound(r.offset()),
                      blocks_.lower_bound(r.offset() + r.length()));
        return ublk::ok;
    }

private:
    std::mutex mutex_;
    std::map<std::uint64_t, std::vector<std::byte>> blocks_;
};

UBLK_BACKEND_LAWS(sparse_disk)
