// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/bio.hpp>
#include <ublk/uapi.hpp>

#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

/// A buffer that a ring knows: memory of the server's, or the pages of a client's request. Whoever
/// works on it holds it, so that it may leave the table meanwhile.
class registered_pages {
public:
    explicit registered_pages(const iovec& memory) noexcept
        : base_{reinterpret_cast<std::uintptr_t>(memory.iov_base)}, bytes_{memory.iov_len} {}

    /// `released` is called when nobody holds them any more.
    registered_pages(const request_slot& rq, std::size_t bytes, std::function<void()> released)
        : bytes_{bytes}, rq_{&rq}, released_{std::move(released)} {}

    registered_pages(const registered_pages&) = delete;
    registered_pages& operator=(const registered_pages&) = delete;
    ~registered_pages() {
        if (released_) {
            released_();
        }
    }

    /// 0 or -errno for an operation that works on that part. `fills` says in which direction: a
    /// client's pages only take part in that of its request.
    [[nodiscard]] int check(std::uint64_t address, std::size_t bytes, bool fills) const noexcept {
        const bool inside =
            address >= base_ && address - base_ <= bytes_ && bytes <= bytes_ - (address - base_);
        const bool wrong_way = rq_ != nullptr && fills != (rq_->part.op == uapi::op::read);
        return inside && !wrong_way ? 0 : -EFAULT;
    }

    /// Where that is now: a client that gives up on its request leaves the pages to others.
    [[nodiscard]] std::byte* at(std::uint64_t address) const noexcept {
        return rq_ != nullptr ? rq_->part.data + (address - base_)
                              : reinterpret_cast<std::byte*>(address);
    }

    [[nodiscard]] const request_slot* request() const noexcept { return rq_; }

private:
    std::uint64_t base_ = 0;  ///< what io_uring takes for the address of the first byte
    std::size_t bytes_;
    const request_slot* rq_ = nullptr;
    std::function<void()> released_;
};

/// The registered buffers of one ring (io_uring/rsrc.c).
class buffer_table {
public:
    /// Makes room. 0 or -errno.
    [[nodiscard]] int reserve(std::size_t places) {
        constexpr std::size_t most = 1u << 14;  // IORING_MAX_REG_BUFFERS
        if (places == 0 || places > most || !places_.empty()) {
            return places_.empty() ? -EINVAL : -EBUSY;
        }
        places_.resize(places);
        return 0;
    }

    [[nodiscard]] int put(std::size_t place, std::shared_ptr<registered_pages> pages) {
        if (place >= places_.size()) {
            return -EINVAL;
        }
        if (places_[place] != nullptr) {
            return -EBUSY;
        }
        places_[place] = std::move(pages);
        return 0;
    }

    /// Takes a request's pages out.
    [[nodiscard]] int take(std::size_t place) {
        if (place >= places_.size() || places_[place] == nullptr) {
            return -EINVAL;
        }
        if (places_[place]->request() == nullptr) {
            return -EBUSY;
        }
        const auto leaving = std::exchange(places_[place], nullptr);
        return 0;
    }

    [[nodiscard]] std::shared_ptr<registered_pages> find(std::size_t place) const {
        return place < places_.size() ? places_[place] : nullptr;
    }

    void clear() { const auto leaving = std::exchange(places_, {}); }

private:
    std::vector<std::shared_ptr<registered_pages>> places_;
};

}  // namespace ublk::inline v0::sim
