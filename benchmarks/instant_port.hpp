// SPDX-License-Identifier: MIT
#pragma once

// Kernels that are none: ports that answer at once, so that only the library's own work is left.

#include <ublk/data/batch_port.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/operation.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <liburing.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

namespace benchmark {

using namespace ublk;

inline constexpr unsigned depth = 64;
inline constexpr std::uint32_t sectors = 8;

/// Writes submissions as a ring does, and answers each in the next turn.
class instant_port {
public:
    instant_port(std::byte* descriptors, bool writes, unsigned turns) noexcept
        : descriptors_{descriptors}, turns_{turns}, writes_{writes} {}

    bool asks_for_data = false;  ///< writes first ask where their bytes belong

    void fetch(queue_id q, tag t, detail::buffer_address at, detail::user_data e) noexcept {
        hand(q, t, 0, at, e);
    }
    void commit(queue_id q, tag t, int result, detail::buffer_address at,
                detail::user_data e) noexcept {
        hand(q, t, result, at, e);
        ++served;
    }
    void get_data(queue_id q, tag t, std::uint64_t memory, detail::user_data e) noexcept {
        put(detail::io_command(q, t, 0, memory), 0);
        coming_.push_back({e, 0});
    }
    void register_buffer(queue_id q, tag t, std::uint16_t index) noexcept {
        put(detail::io_command(q, t, 0, index), 0);
    }
    void unregister_buffer(queue_id q, tag t, std::uint16_t index) noexcept {
        put(detail::io_command(q, t, 0, index), 0);
    }
    void start(const detail::operation& requested) noexcept {
        put(uapi::io_cmd{}, 0);
        std::memcpy(&sqes_[(tail_ - 1) % sqes_.size()], &requested.submitted, 32);
        coming_.push_back(
            {detail::user_data::of(requested), static_cast<int>(requested.submitted.length)});
    }
    void cancel_operations() noexcept {}
    void listen() noexcept {}
    int flush() noexcept { return 0; }
    int flush_and_collect() noexcept { return 0; }
    [[nodiscard]] detail::deadline now() const noexcept { return std::chrono::steady_clock::now(); }
    int wait() noexcept {
        if (turns_-- == 0) {
            for (event& each : coming_) {
                each.answer = uapi::io_res_abort;
            }
        }
        now_.swap(coming_);
        coming_.clear();
        return 0;
    }
    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        for (const event& each : now_) {
            consume(each.t, each.answer);
        }
        now_.clear();
    }

    std::uint64_t served = 0;

private:
    struct event {
        detail::user_data t{0};
        int answer = 0;
    };

    [[gnu::always_inline]] void put(const uapi::io_cmd& requested, std::uint64_t address) noexcept {
        io_uring_sqe& sqe = sqes_[tail_++ % sqes_.size()];
        std::memset(static_cast<void*>(&sqe), 0, 48);
        sqe.addr = address;
        std::memcpy(reinterpret_cast<std::byte*>(&sqe) + 48, &requested, sizeof requested);
    }
    [[gnu::always_inline]] void hand(queue_id q, tag t, int result, detail::buffer_address at,
                                     detail::user_data e) noexcept {
        put(detail::io_command(q, t, result, at.memory), at.registration);
        const uapi::io_desc next{
            static_cast<std::uint32_t>(writes_ ? uapi::op::write : uapi::op::read), sectors,
            std::uint64_t{t.value()} * sectors, 0};
        std::memcpy(descriptors_ + t.value() * sizeof next, &next, sizeof next);
        coming_.push_back({e, asks_for_data && writes_ ? uapi::io_res_need_get_data : 0});
    }

    struct events : std::array<event, 4 * depth> {
        std::size_t count = 0;
        [[gnu::always_inline]] void push_back(event e) noexcept { (*this)[count++] = e; }
        void clear() noexcept { count = 0; }
        event* end() noexcept { return data() + count; }
        event* begin() noexcept { return data(); }
        void swap(events& other) noexcept { std::swap(*this, other); }
    };

    std::byte* descriptors_;
    unsigned turns_;
    bool writes_;
    unsigned tail_ = 0;
    std::array<io_uring_sqe, 256> sqes_{};
    events coming_;
    events now_;
};

struct instant_channel {
    std::byte* descriptors;
    bool writes;
};

/// The same in the driver's batches.
class instant_wire {
public:
    instant_wire(const instant_channel& device, unsigned turns, const detail::port_needs&) noexcept
        : device_{device}, turns_{turns} {}

    void prepare_tags(const uapi::batch_io& header, const void* tags, detail::user_data) {
        hand(header, tags);
    }
    void commit_tags(const uapi::batch_io& header, const void* tags, detail::user_data t) {
        hand(header, tags);
        committed_ = t;
        bytes_ = header.nr_elem * header.elem_bytes;
        served += header.nr_elem;
    }
    void commit_single(const uapi::batch_io& header, const void* tag, detail::user_data) {
        hand(header, tag);
        ++served;
    }
    void fetch_tags(queue_id, std::uint16_t, detail::user_data t) noexcept { fetched_ = t; }
    [[nodiscard]] std::span<const std::uint16_t> tags(std::uint16_t, int answer,
                                                      std::uint32_t) const noexcept {
        return {tags_.data(), answer > 0 ? count_ : 0};
    }
    void give_back(std::uint16_t, int, std::uint32_t) noexcept { count_ = 0; }
    [[nodiscard]] static bool goes_on(std::uint32_t event) noexcept { return event != 0; }

    void register_buffer(queue_id, tag, std::uint16_t) noexcept {}
    void unregister_buffer(queue_id, tag, std::uint16_t) noexcept {}
    void start(const detail::operation& requested) noexcept {
        started_[started_count_++] = {detail::user_data::of(requested),
                                      static_cast<int>(requested.submitted.length)};
    }
    void cancel_operations() noexcept {}
    void listen() noexcept {}
    [[nodiscard]] detail::deadline now() const noexcept { return std::chrono::steady_clock::now(); }
    int flush() noexcept { return 0; }
    int flush_and_collect() noexcept { return 0; }
    int wait(unsigned) noexcept {
        waited_ = true;
        return 0;
    }
    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        const std::size_t ended = std::exchange(started_count_, 0);
        for (std::size_t i = 0; i < ended; ++i) {
            const operation_end each =
                started_[i];  // what it leads to may start another in its place
            consume(each.t, each.answer, 0u);
        }
        if (bytes_ != 0) {
            consume(committed_, std::exchange(bytes_, 0), 0u);
        }
        if (std::exchange(waited_, false)) {
            const bool goes_on = turns_-- != 0;
            consume(fetched_, goes_on ? static_cast<int>(2 * count_) : uapi::io_res_abort,
                    goes_on ? 1u : 0u);
        }
    }

    static inline std::uint64_t served = 0;

private:
    void hand(const uapi::batch_io& header, const void* tags) noexcept {
        for (unsigned i = 0; i < header.nr_elem; ++i) {
            uapi::elem_header element;
            std::memcpy(&element, static_cast<const std::byte*>(tags) + i * header.elem_bytes,
                        sizeof element);
            const uapi::io_desc next{
                static_cast<std::uint32_t>(device_.writes ? uapi::op::write : uapi::op::read),
                sectors, std::uint64_t{element.tag} * sectors, 0};
            std::memcpy(device_.descriptors + element.tag * sizeof next, &next, sizeof next);
            tags_[count_++] = element.tag;
        }
    }

    struct operation_end {
        detail::user_data t{0};
        int answer = 0;
    };

    instant_channel device_;
    unsigned turns_;
    bool waited_ = false;
    std::array<std::uint16_t, depth> tags_{};
    std::size_t count_ = 0;
    std::array<operation_end, depth> started_{};
    std::size_t started_count_ = 0;
    detail::user_data fetched_{0};
    detail::user_data committed_{0};
    int bytes_ = 0;
};

}  // namespace benchmark
