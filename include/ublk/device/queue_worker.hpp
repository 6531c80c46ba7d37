// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue_loop.hpp>
#include <ublk/detail/abandoned.hpp>
#include <ublk/device/any_queue_worker.hpp>
#include <ublk/device/queue_context.hpp>
#include <ublk/device/queue_resources.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace ublk::inline v0::detail {

/// What goes with each tag in the driver's batches.
[[nodiscard]] constexpr std::uint16_t batch_flags_of(data_path path) noexcept {
    return path == data_path::auto_buffer ? uapi::batch_flag::auto_buf_reg_fallback
           : has_tag_buffers(path)        ? uapi::batch_flag::has_buf_addr
                                          : std::uint16_t{0};
}

/// All that one thread needs for its part of a device, made and used by that thread alone.
template <class Backend, class QueuePolicy, class BatchPolicy, class Path, class Port, class Kernel>
class queue_worker {
    static constexpr bool async = asynchronous<Backend, typename Path::payload>;
    using traits = queue_policy_traits<QueuePolicy>;
    using loop = queue_loop<Backend, BatchPolicy, Port, QueuePolicy::single_queue, Path,
                            typename traits::waiting, typename traits::measuring>;

    struct remains : abandoned {
        std::unique_ptr<loop> tasks;
        fixed_array<tag_buffers> bytes;
    };

public:
    /// Both outlive it.
    /// Throws: `error`, before the driver has anything of it.
    queue_worker(Backend& backend, const queue_context<Kernel>& context)
        : resources_{context}, port_{context.channel, context.wakeup, needs(context)},
          loop_{std::make_unique<loop>(
              backend, port_, std::span<queue>{resources_.queues.begin(), resources_.queues.size()},
              context.flags,
              wakeup_call{[](const void* wakeup) noexcept {
                              static_cast<const typename Kernel::wakeup*>(wakeup)->wake();
                          },
                          &context.wakeup},
              loop_timing{context.setup.requested.spin, context.setup.requested.batch_delay},
              context.record, context.progress)} {}
    queue_worker(const queue_worker&) = delete;
    queue_worker& operator=(const queue_worker&) = delete;
    ~queue_worker() {
        if (left_behind()) {
            fixed_array<queue>& queues = resources_.queues;
            auto* const mine = new remains;
            mine->bytes = fixed_array<tag_buffers>{queues.size()};
            for (std::size_t i = 0; i < queues.size(); ++i) {
                mine->bytes[i] = std::move(queues[i].data);
            }
            mine->tasks = std::move(loop_);
            detail::abandon(mine);
        }
    }

    // As `any_queue_worker` has them.
    [[nodiscard]] int fetch_all() noexcept { return loop_->fetch_all(); }
    [[nodiscard]] unsigned ring_flags() const noexcept { return port_.ring_flags(); }
    [[nodiscard]] int run() noexcept { return loop_->run(); }
    [[nodiscard]] worker_state turn() noexcept {
        constexpr int fair_share = 8;  // then it is the others' turn
        for (int i = 0; i < fair_share && loop_->goes_on(); ++i) {
            if (!port_.ready()) {
                return worker_state::idle;
            }
            loop_->turn(port_.poll());
        }
        return loop_->goes_on() ? worker_state::busy : worker_state::over;
    }
    [[nodiscard]] int end() noexcept { return loop_->end(); }
    [[nodiscard]] bool left_behind() const noexcept { return loop_->left_behind(); }

private:
    [[nodiscard]] port_needs needs(const queue_context<Kernel>& context) const {
        const device_setup& setup = context.setup;
        const unsigned tags = resources_.tags;
        const auto table = static_cast<unsigned>(resources_.ids.size()) * setup.granted.depth;
        return {.tags = tags,
                .operations = async ? tags * operations_in_flight<Backend> : 0,
                .reserved_buffers = registers_requests(Path::id) ? table : 0,
                .tag_buffers = {resources_.registered.begin(), resources_.registered.size()},
                .files = {setup.files.data(), setup.files.size()},
                .queues = {resources_.ids.begin(), resources_.ids.size()},
                .depth = setup.granted.depth,
                .batch_flags = batch_flags_of(Path::id),
                .spins = traits::waiting::spins || context.wakeup_event != nullptr,
                .kernel_submits = batch_policy_traits<BatchPolicy>::by_kernel_thread,
                .kernel_idle_ms = static_cast<unsigned>(setup.requested.sqpoll_idle.count()),
                .wakeup_event = context.wakeup_event};
    }

    // Before the port, so that the ring goes first at the end: until then the driver may still copy
    // a write into a buffer whose tag it holds.
    queue_resources resources_;
    Port port_;
    std::unique_ptr<loop> loop_;
};

}  // namespace ublk::inline v0::detail
