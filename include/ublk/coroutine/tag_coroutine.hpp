// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/io.hpp>
#include <ublk/request.hpp>
#include <ublk/task.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace ublk::inline v0 {

/// How many operations of one request may be with the kernel at the same time.
template <class B>
inline constexpr unsigned operations_in_flight = [] {
    if constexpr (requires { std::bool_constant<(B::operations_in_flight > 0)>{}; }) {
        return unsigned{B::operations_in_flight};
    } else {
        return 1u;
    }
}();

/// Bytes that the frames of one request's coroutines take.
template <class B>
inline constexpr std::size_t task_bytes = [] {
    if constexpr (requires { std::bool_constant<(B::task_bytes > 0)>{}; }) {
        return std::size_t{B::task_bytes};
    } else {
        return std::size_t{2048};
    }
}();

/// What an asynchronous backend is doing for one tag.
struct tag_work : io {
    tag_work(io_thread& home, std::span<std::byte> memory, std::uint16_t queue_place) noexcept
        : io{home, memory}, place{queue_place} {}

    request asked{uapi::io_desc{}, queue_id{}, tag{}};
    task running{ok};
    std::uint16_t place;      ///< of the queue among those of its thread
    bool registered = false;  ///< the client's pages were registered by us
};

/// The works of one queue's tags and the memory of their frames, taken once.
class tag_works {
public:
    tag_works() noexcept = default;
    tag_works(io_thread& home, std::uint16_t place, unsigned tags, std::size_t bytes_each)
        : memory_{new (std::align_val_t{line}) std::byte[tags * stride(bytes_each)]} {
        works_.reserve(tags);
        for (std::size_t i = 0; i < tags; ++i) {
            works_.emplace_back(home, std::span{memory_.get() + i * stride(bytes_each), bytes_each},
                                place);
        }
    }

    [[nodiscard]] tag_work& operator[](tag which) noexcept { return works_[which.value()]; }
    [[nodiscard]] auto begin() noexcept { return works_.begin(); }
    [[nodiscard]] auto end() noexcept { return works_.end(); }

private:
    static constexpr std::size_t line = 64;

    // An odd number of cache lines: with a power of two all tags' frames would compete for a few
    // sets of the cache.
    [[nodiscard]] static constexpr std::size_t stride(std::size_t bytes) noexcept {
        return ((bytes + line - 1) / line | 1) * line;
    }

    struct release {
        void operator()(std::byte* memory) const noexcept {
            ::operator delete[](memory, std::align_val_t{line});
        }
    };

    std::unique_ptr<std::byte[], release> memory_;
    std::vector<tag_work> works_;
};

}  // namespace ublk::inline v0
