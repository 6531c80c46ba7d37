// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/mapping.hpp>

#include <sys/mman.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace ublk::inline v0::detail {

/// Buffers for what passes through a backend's memory, for any number of threads. They take memory
/// once they are used.
class copy_buffers {
public:
    static constexpr std::size_t count = 64;
    static constexpr std::size_t bytes_each = 64u << 10;

    /// Throws: `error` where the address space has no room.
    copy_buffers() : state_{std::make_unique<state>()} {}

    /// A buffer, until it is destroyed; empty where all are taken.
    class buffer {
    public:
        buffer(copy_buffers& from, std::size_t index) noexcept : from_{&from}, index_{index} {}
        buffer(buffer&& other) noexcept
            : from_{other.from_}, index_{std::exchange(other.index_, count)} {}
        buffer& operator=(buffer&& other) noexcept {
            std::swap(from_, other.from_);
            std::swap(index_, other.index_);
            return *this;
        }
        ~buffer() {
            if (index_ < count) {
                from_->state_->taken.fetch_and(~(std::uint64_t{1} << index_),
                                               std::memory_order_release);
            }
        }

        [[nodiscard]] explicit operator bool() const noexcept { return index_ < count; }
        [[nodiscard]] std::span<std::byte> bytes() const noexcept {
            return {from_->state_->memory.data() + index_ * bytes_each, bytes_each};
        }

    private:
        copy_buffers* from_;
        std::size_t index_;
    };

    [[nodiscard]] buffer take() noexcept {
        std::uint64_t taken = state_->taken.load(std::memory_order_relaxed);
        while (taken != ~std::uint64_t{0}) {
            const std::size_t index = static_cast<std::size_t>(std::countr_one(taken));
            if (state_->taken.compare_exchange_weak(taken, taken | std::uint64_t{1} << index,
                                                    std::memory_order_acquire)) {
                return {*this, index};
            }
        }
        return {*this, count};
    }

private:
    struct state {
        mapping memory{count * bytes_each,
                       PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                       -1,
                       0,
                       "mapping memory to copy through"};
        std::atomic<std::uint64_t> taken = 0;  ///< bit by bit
    };
    static_assert(count == 64, "as many as a word has bits");

    std::unique_ptr<state> state_;
};

}  // namespace ublk::inline v0::detail
