// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/cpus.hpp>
#include <ublk/error.hpp>
#include <ublk/fixed_array.hpp>
#include <ublk/kernel.hpp>
#include <ublk/options.hpp>
#include <ublk/pace.hpp>
#include <ublk/queue.hpp>
#include <ublk/queue_policy/queue_policy.hpp>
#include <ublk/queue_progress.hpp>

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// What the queue threads need to know of their device.
struct device_plan {
    device_info granted;
    std::size_t page_size;
    pages buffer_pages;
    bool lock_buffers;
    fixed_array<cpu_set> affinity{};              ///< one a queue
    std::vector<const registered_file*> files{};  ///< of the backend
    queue_facts shape{};                          ///< what there is for threads to serve
    std::vector<unsigned> cpus{};                 ///< options::cpus
    cpu_set neighbours{};
    pace limits{};
    unsigned sqpoll_idle_ms = 0;
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

    static void wake(const void* waker) noexcept {
        static_cast<const typename Kernel::waker*>(waker)->wake();
    }

    [[nodiscard]] static std::exception_ptr refused_fetch(int code, std::uint32_t id) {
        return std::make_exception_ptr(
            error{code, "FETCH_REQ", id,
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
        return has_tag_buffers(granted.path) ? buffers{granted.depth, granted.max_io_bytes,
                                                       plan.buffer_pages, plan.lock_buffers, step}
                                             : buffers{};
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
