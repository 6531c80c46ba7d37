// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/cpus.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel.hpp>
#include <ublk/options.hpp>
#include <ublk/queue.hpp>

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
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
    std::vector<cpu_set> affinity;  ///< one a queue
    std::vector<int> files{};       ///< of the backend, for the rings to register
};

/// What one queue thread has and whom it tells. All that it refers to outlives it.
template <class Kernel>
struct queue_post {
    const typename Kernel::channel& channel;
    const typename Kernel::waker& waker;
    const std::atomic<unsigned>& orders;
    const device_plan& plan;
    const std::vector<queue_id>& mine;
    void* whom;
    void (*ready)(void* whom, unsigned ring_flags);  ///< every tag is offered
    void (*failed)(void* whom, int code);            ///< before anything is torn down

    static void wake(const void* waker) noexcept {
        static_cast<const typename Kernel::waker*>(waker)->wake();
    }

    void demand_all_tags(int code) const {
        if (code < 0) {
            fail(code, "FETCH_REQ", plan.granted.id,
                 "the driver refuses to hand requests of this device to this thread",
                 "report it with the kernel's version: it contradicts what START_DEV needs");
        }
    }

    [[nodiscard]] std::vector<queue> make_queues() const {
        const device_info& granted = plan.granted;
        const std::size_t page = plan.page_size;
        const std::size_t each = granted.io_desc_size;
        std::vector<queue> all;
        all.reserve(mine.size());
        for (const queue_id id : mine) {
            const std::uint64_t offset =
                uapi::cmd_buf_offset + id.value() * uapi::cmd_buf_stride(each, page);
            mapping descriptors =
                channel.map(offset, uapi::cmd_buf_size(granted.depth, each, page));
            all.emplace_back(id, std::move(descriptors), each, make_buffers(), granted.depth,
                             channel.file());
        }
        return all;
    }

    [[nodiscard]] buffers make_buffers() const {
        const device_info& granted = plan.granted;
        return has_tag_buffers(granted.path) ? buffers{granted.depth, granted.max_io_bytes,
                                                       plan.buffer_pages, plan.lock_buffers}
                                             : buffers{};
    }

    [[nodiscard]] std::vector<iovec> buffers_to_register(const std::vector<queue>& queues) const {
        std::vector<iovec> all;
        if (plan.granted.path == data_path::fixed_copy) {
            for (const queue& each : queues) {
                for (std::uint16_t i = 0; i < plan.granted.depth; ++i) {
                    all.push_back({each.data[tag{i}], each.data.stride()});
                }
            }
        }
        return all;
    }
};

}  // namespace ublk::inline v0
