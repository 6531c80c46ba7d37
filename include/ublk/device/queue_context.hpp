// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue.hpp>
#include <ublk/data/queue_progress.hpp>
#include <ublk/detail/cpu_set.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/device/fallback_list.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/setup_refused.hpp>
#include <ublk/options.hpp>
#include <ublk/policy/loop_timing.hpp>
#include <ublk/policy/placement.hpp>
#include <ublk/policy/queue_policy.hpp>

#include <sys/uio.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// What the queue threads need to know of their device.
struct device_plan {
    device_info granted;
    std::size_t page_size;
    buffer_wishes memory;
    fixed_array<cpu_set> affinity{};              ///< one a queue
    std::vector<const registered_file*> files{};  ///< of the backend
    queue_facts shape{};                          ///< what there is for threads to serve
    std::vector<unsigned> cpus{};                 ///< options::cpus
    cpu_set neighbours{};
    pace limits{};
    unsigned sqpoll_idle_ms = 0;

    // Spans by hand: from containers they take compilers long.
    /// By which the policy places one thread.
    [[nodiscard]] place_facts place_of(const thread_shares& mine, std::size_t thread) const {
        return {.queue_cpus = {affinity.begin(), affinity.size()},
                .mine = {mine.data(), mine.size()},
                .thread = thread,
                .listed = {cpus.data(), cpus.size()},
                .neighbours = neighbours};
    }

    /// Says why a thread cannot be where its policy wants it, or throws where it must.
    [[nodiscard]] std::string affinity_refused() const {
        const char* const cause =
            "this process may not use the CPUs that the queue policy has for them";
        if (memory.insist) {
            fail(EINVAL, "placing the queue threads", granted.id, cause,
                 "start the program with those CPUs (taskset, cpuset), or take a policy that "
                 "leaves threads where they are, or options::fall_back");
        }
        return std::string{"queue threads run where the scheduler puts them: "} + cause;
    }
};

/// What one queue thread has and whom it tells. All that it refers to outlives it.
template <class Kernel>
struct queue_post {
    const typename Kernel::channel& channel;
    const typename Kernel::waker& waker;
    const std::atomic<unsigned>& orders;
    const device_plan& plan;
    const thread_shares& mine;
    const void* bell;  ///< of Kernel's; null on a thread of the device's own
    void* record;      ///< of the measuring policy's
    queue_progress& progress;
    void* whom;
    void (*ready)(void* whom, unsigned ring_flags);  ///< every tag is offered
    void (*refused)(void* whom, int code);           ///< a tag is not taken
    void (*failed)(void* whom, int code);            ///< before anything is torn down
    void (*late)(void* whom) noexcept;               ///< a thread of the user's may still come
    fallback_list<Kernel>& fallbacks;

    static void wake(const void* waker) noexcept {
        static_cast<const typename Kernel::waker*>(waker)->wake();
    }

    [[nodiscard]] static std::exception_ptr refused_fetch(int code, const device_info& granted) {
        if (granted.driver_batches) {
            return std::make_exception_ptr(
                way_refused{way_refused::kind::batches, code, "PREP_IO_CMDS", granted.id,
                            "the driver refuses batches that it has granted",
                            "leave options::fall_back, or take another batch policy"});
        }
        return std::make_exception_ptr(
            error{code, "FETCH_REQ", granted.id,
                  "the driver refuses to hand requests of this device to this thread",
                  "report it with the kernel's version: it contradicts what START_DEV needs"});
    }

    [[nodiscard]] fixed_array<queue> make_queues() const {
        const device_info& granted = plan.granted;
        const std::size_t page = plan.page_size;
        const std::size_t each = granted.io_desc_size;
        fixed_array<queue> all{mine.size()};
        for (std::size_t i = 0; i < mine.size(); ++i) {
            const queue_share& share = mine[i];
            const std::uint64_t offset =
                uapi::cmd_buf_offset + share.queue.value() * uapi::cmd_buf_stride(each, page);
            mapping descriptors =
                channel.map(offset, uapi::cmd_buf_size(granted.depth, each, page));
            all[i] = queue{share.queue,   std::move(descriptors), each, make_buffers(share.step),
                           granted.depth, channel.file()}
                         .share(share.first, share.step);
        }
        return all;
    }

    [[nodiscard]] fixed_array<queue_id> queue_ids() const {
        fixed_array<queue_id> all{mine.size()};
        for (std::size_t i = 0; i < mine.size(); ++i) {
            all[i] = mine[i].queue;
        }
        return all;
    }

    /// How many tags the thread has.
    [[nodiscard]] unsigned tags() const noexcept {
        unsigned all = 0;
        for (const queue_share& share : mine) {
            all += (plan.granted.depth - share.first + share.step - 1) / share.step;
        }
        return all;
    }

    [[nodiscard]] buffers make_buffers(std::uint16_t step) const {
        const device_info& granted = plan.granted;
        if (!has_tag_buffers(granted.path)) {
            return {};
        }
        buffers made{granted.depth, granted.max_io_bytes, plan.memory, step};
        if (!made.fallback().empty()) {
            fallbacks.note(made.fallback());
        }
        return made;
    }

    /// Empty where the data path registers none.
    [[nodiscard]] fixed_array<iovec> buffers_to_register(const fixed_array<queue>& queues) const {
        if (plan.granted.path != data_path::fixed_copy) {
            return {};
        }
        const unsigned depth = plan.granted.depth;
        fixed_array<iovec> all{queues.size() * depth};
        for (std::size_t q = 0; q < queues.size(); ++q) {
            const queue& each = queues[q];
            for (unsigned i = each.first; i < depth; i += each.step) {
                const tag ours{static_cast<std::uint16_t>(i)};
                all[q * depth + i] = {each.data[ours], each.data.stride()};
            }
        }
        return all;
    }
};

}  // namespace ublk::inline v0
