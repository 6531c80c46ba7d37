// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue_loop.hpp>
#include <ublk/data/tag_buffers.hpp>
#include <ublk/detail/abandoned.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/device/path_choice.hpp>
#include <ublk/device/queue_context.hpp>
#include <ublk/device/thread_set_handle.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/measuring.hpp>
#include <ublk/policy/queue_policy.hpp>
#include <ublk/policy/wait.hpp>

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace ublk::inline v0 {

namespace detail {

/// What goes with each tag in the driver's batches.
[[nodiscard]] constexpr std::uint16_t batch_flags_of(data_path path) noexcept {
    return path == data_path::auto_buffer ? uapi::batch_flag::auto_buf_reg_fallback
           : has_tag_buffers(path)        ? uapi::batch_flag::has_buf_addr
                                          : std::uint16_t{0};
}

}  // namespace detail

/// All that one thread needs for its part of a device, made and used by that thread alone.
template <class Backend, class QueuePolicy, class BatchPolicy, class Path, class Port, class Kernel>
class seat {
    static constexpr bool async = asynchronous<Backend, typename Path::payload>;
    using waiting = waiting_of<QueuePolicy>;
    using measuring = measuring_of<QueuePolicy>;
    using loop = server<Backend, BatchPolicy, Port, QueuePolicy::one_queue_a_thread, Path, waiting,
                        measuring>;

    struct remains : detail::abandoned {
        std::unique_ptr<loop> tasks;
        fixed_array<buffers> bytes;
    };

public:
    /// Throws `error`, before the driver has anything of it. Both outlive it.
    seat(Backend& backend, const queue_post<Kernel>& post)
        : post_{post}, queues_{post.make_queues()}, tag_buffers_{post.buffers_to_register(queues_)},
          ids_{post.queue_ids()}, talk_{post.channel, post.waker, needs()},
          loop_{std::make_unique<loop>(
              backend, talk_, std::span<queue>{queues_.begin(), queues_.size()}, post.orders,
              rouser{post.wake, &post.waker}, post.plan.limits, post.record, post.progress)} {}
    seat(const seat&) = delete;
    seat& operator=(const seat&) = delete;
    ~seat() {
        if (loop_->left_behind()) {
            auto* const mine = new remains;
            mine->bytes = fixed_array<buffers>{queues_.size()};
            for (std::size_t place = 0; place < queues_.size(); ++place) {
                mine->bytes[place] = std::move(queues_[place].data);
            }
            mine->tasks = std::move(loop_);
            detail::abandon(mine);
            post_.late(post_.whom);
        }
    }

    /// Offers all tags to the driver. False where it refuses one; others may be with the driver
    /// then, so the ring must stay until the device is stopped.
    [[nodiscard]] bool begin() {
        const int code = loop_->fetch_all();
        if (code == 0) {
            post_.ready(post_.whom, talk_.ring_flags());
        } else {
            post_.refused(post_.whom, code);
        }
        return code == 0;
    }

    /// On a thread of its own, after `begin`: 0, or the errno (negative) with which it failed.
    [[nodiscard]] int run() noexcept {
        const int code = loop_->run();
        if (code != 0) {
            post_.failed(post_.whom, code);
        }
        return code;
    }

    /// On a thread that others share: serves what there is, without waiting.
    [[nodiscard]] seat_state turn() noexcept {
        constexpr int fair_share = 8;  // then it is the others' turn
        for (int i = 0; i < fair_share && loop_->goes_on(); ++i) {
            if (!talk_.ready()) {
                return seat_state::idle;
            }
            loop_->turn(talk_.poll());
        }
        return loop_->goes_on() ? seat_state::busy : seat_state::over;
    }
    /// Then, once: returns as `run`.
    [[nodiscard]] int end() noexcept { return loop_->end(); }

private:
    [[nodiscard]] port_needs needs() const {
        const unsigned tags = post_.tags();
        const auto places = static_cast<unsigned>(queues_.size()) * post_.plan.granted.depth;
        return {.tags = tags,
                .operations = async ? tags * operations_in_flight<Backend> : 0,
                .reserved_buffers = registers_requests(Path::id) ? places : 0,
                .tag_buffers = {tag_buffers_.begin(), tag_buffers_.size()},
                .files = {post_.plan.files.data(), post_.plan.files.size()},
                .queues = {ids_.begin(), ids_.size()},
                .depth = post_.plan.granted.depth,
                .batch_flags = detail::batch_flags_of(Path::id),
                .spins = waiting::spins || post_.bell != nullptr,
                .kernel_submits = submits_by_kernel<BatchPolicy>,
                .kernel_idle_ms = post_.plan.sqpoll_idle_ms,
                .bell = post_.bell};
    }

    const queue_post<Kernel>& post_;
    // Before the port, so that the ring goes first at the end: until then the driver may still copy
    // a write into a buffer whose tag it holds.
    fixed_array<queue> queues_;
    fixed_array<iovec> tag_buffers_;
    fixed_array<queue_id> ids_;
    Port talk_;
    std::unique_ptr<loop> loop_;
};

/// A seat of any type, for a thread that serves many.
class seated {
public:
    seated() noexcept = default;
    template <class Seat, class Backend, class Post>
    seated(std::in_place_type_t<Seat>, Backend& backend, const Post& post)
        : self_{new Seat{backend, post}, [](void* s) noexcept { delete static_cast<Seat*>(s); }},
          begin_{[](void* s) { return static_cast<Seat*>(s)->begin(); }},
          turn_{[](void* s) noexcept { return static_cast<Seat*>(s)->turn(); }},
          end_{[](void* s) noexcept { return static_cast<Seat*>(s)->end(); }} {}

    [[nodiscard]] explicit operator bool() const noexcept { return self_ != nullptr; }
    [[nodiscard]] bool begin() { return begin_(self_.get()); }
    [[nodiscard]] seat_state turn() noexcept { return turn_(self_.get()); }
    [[nodiscard]] int end() noexcept { return end_(self_.get()); }

private:
    std::unique_ptr<void, void (*)(void*) noexcept> self_{nullptr, [](void*) noexcept {}};
    bool (*begin_)(void*) = nullptr;
    seat_state (*turn_)(void*) noexcept = nullptr;
    int (*end_)(void*) noexcept = nullptr;
};

}  // namespace ublk::inline v0
