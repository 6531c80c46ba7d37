// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/seam.hpp>
#include <ublk/sim/words.hpp>
#include <ublk/sim/world.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace ublk::inline v0::sim {

/// An open /dev/ublkbN. Offsets and lengths are bytes. Each operation returns 0 or a positive
/// errno, as a client of a real disk with O_DIRECT sees it.
class client {
public:
    /// A request that is not answered within this much (virtual) time hangs.
    static constexpr std::chrono::seconds patience{300};

    /// Throws: `error` where there is no such disk.
    client(world& in, std::uint32_t id) : in_{in}, device_{in.ublk_drv().life.find(id)} {
        disk_ = device_ == nullptr ? nullptr : device_->live;
        if (disk_ == nullptr || (device_->block_open && !in.on().is.root)) {
            fail(ENXIO, "opening /dev/ublkb" + std::to_string(id), id);
        }
        ++device_->openers;
    }
    client(const client&) = delete;
    client& operator=(const client&) = delete;
    ~client() { --device_->openers; }

    [[nodiscard]] const disk_limits& limits() const noexcept { return disk_->limits(); }
    [[nodiscard]] std::uint64_t size() const noexcept {
        return sectors_to_bytes(disk_->limits().capacity);
    }
    [[nodiscard]] std::uint32_t block_size() const noexcept {
        return static_cast<std::uint32_t>(sectors_to_bytes(disk_->limits().logical_block));
    }

    int read(std::uint64_t offset, std::span<std::byte> out) {
        return perform(uapi::op::read, offset, out.size(), 0, out.data());
    }
    int write(std::uint64_t offset, std::span<const std::byte> in, std::uint32_t flags = 0) {
        return perform(uapi::op::write, offset, in.size(), flags,
                       const_cast<std::byte*>(in.data()));
    }
    int flush() { return perform(uapi::op::flush, 0, 0, 0, nullptr); }
    int discard(std::uint64_t offset, std::uint64_t length) {
        return perform(uapi::op::discard, offset, length, 0, nullptr);
    }
    int write_zeroes(std::uint64_t offset, std::uint64_t length, std::uint32_t flags = 0) {
        return perform(uapi::op::write_zeroes, offset, length, flags, nullptr);
    }

    /// Writes into the page cache: it goes to the disk when that is stopped.
    void write_dirty(std::uint64_t offset, std::span<const std::byte> in) {
        device_->dirty.push_back({bytes_to_sectors(offset), {in.begin(), in.end()}});
    }

    /// Begins; `wait` ends it. The bio and its data stay where they are meanwhile.
    void submit(bio& b) { disk_->submit(b); }

    /// 0 or a positive errno. A request that nobody answers is a violation, and ETIMEDOUT.
    int wait(bio& b) {
        scheduler& tasks = in_.on().tasks;
        const deadline until = tasks.now() + patience;
        while (!b.done) {
            if (const wake_up cause =
                    tasks.block(b.waiting, "the answer to a request", until, true);
                cause != wake_up::called && !b.done) {
                give_up(b, cause);
                return ETIMEDOUT;
            }
        }
        return b.error;
    }

    /// A request that nobody will answer: says so, and takes it from the caller's hands.
    void give_up(bio& b, wake_up cause) {
        in_.on().violation("hang: a " +
                           in_words(b.op, sectors_to_bytes(b.sector), sectors_to_bytes(b.sectors)) +
                           " is not answered, " +
                           (cause == wake_up::stuck ? "nothing can move any more:\n"
                                                    : "others go round in circles:\n") +
                           in_.on().tasks.describe_waits());
        disk_->disown(b);
    }

private:
    int perform(uapi::op op, std::uint64_t offset, std::uint64_t length, std::uint32_t flags,
                std::byte* data) {
        if (offset % sector_size != 0 || length % sector_size != 0) {
            return EINVAL;
        }
        bio b;
        b.op = op;
        b.sector = bytes_to_sectors(offset);
        b.sectors = bytes_to_sectors(length);
        b.flags = flags;
        b.data = data;
        b.cpu = static_cast<unsigned>(in_.dice().below(in_.on().is.cpus));
        submit(b);
        return wait(b);
    }

    world& in_;
    device_ptr device_;
    std::shared_ptr<driver_device::disk> disk_;
};

}  // namespace ublk::inline v0::sim
