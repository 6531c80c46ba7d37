// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/cpus.hpp>
#include <ublk/data_path/auto_buffer.hpp>
#include <ublk/data_path/copy.hpp>
#include <ublk/data_path/fixed_copy.hpp>
#include <ublk/data_path/lend.hpp>
#include <ublk/data_path/pages.hpp>
#include <ublk/data_path/user_copy.hpp>
#include <ublk/data_path/zero_copy.hpp>
#include <ublk/kernel.hpp>
#include <ublk/options.hpp>
#include <ublk/path_choice.hpp>
#include <ublk/queue.hpp>
#include <ublk/server.hpp>

#include <sys/uio.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
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

/// What one queue thread has and does while it serves. All that it refers to outlives it.
template <class Backend, class QueuePolicy, class BatchPolicy, class Kernel>
class queue_post {
public:
    queue_post(Backend& backend, const typename Kernel::channel& channel,
               const typename Kernel::waker& waker, const std::atomic<unsigned>& orders,
               const device_plan& plan) noexcept
        : backend_{backend}, channel_{channel}, waker_{waker}, orders_{orders}, plan_{plan} {}

    /// Offers all tags of these queues, calls `ready(ring_flags)`, and serves until the end; then
    /// `failed(errno)` where that was none, before anything is torn down. Throws `error` where it
    /// never got ready. Here is the one branch on the data path.
    template <class Ready, class Failed>
    int serve(const std::vector<queue_id>& mine, Ready ready, Failed failed) const {
        switch (plan_.granted.path) {
        case data_path::copy:
            return serve_by<paths::copy>(mine, ready, failed);
        case data_path::fixed_copy:
            return serve_by<paths::fixed_copy>(mine, ready, failed);
        case data_path::user_copy:
            return serve_by<paths::user_copy>(mine, ready, failed);
        case data_path::lend:
            return serve_by<paths::lend>(mine, ready, failed);
        case data_path::zero_copy:
            return serve_by<paths::zero_copy>(mine, ready, failed);
        case data_path::pages:
            return serve_by<paths::pages>(mine, ready, failed);
        case data_path::auto_buffer:
            return serve_by<paths::auto_buffer>(mine, ready, failed);
        }
        return -EINVAL;
    }

private:
    using port = typename Kernel::port;

    template <class Path, class Ready, class Failed>
    int serve_by(const std::vector<queue_id>& mine, Ready ready, Failed failed) const {
        if constexpr (offers<Backend>(Path::id)) {
            // Before the port, so that the ring goes first at the end: until then the driver may
            // still copy a write into a buffer whose tag it holds.
            std::vector<queue> queues = make_queues(mine);
            const std::vector<iovec> tag_buffers = buffers_to_register(queues);
            const auto tags = static_cast<unsigned>(queues.size()) * plan_.granted.depth;
            constexpr bool async = asynchronous<Backend, typename Path::payload>;
            port talk{channel_, waker_,
                      port_needs{.tags = tags,
                                 .operations = async ? tags * operations_in_flight<Backend> : 0,
                                 .reserved_buffers = registers_requests(Path::id) ? tags : 0,
                                 .tag_buffers = tag_buffers,
                                 .files = plan_.files}};
            server<Backend, BatchPolicy, port, QueuePolicy::one_queue_a_thread, Path> loop{
                backend_, talk, queues, orders_, rouser{wake, &waker_}};
            demand_all_tags(loop.fetch_all());
            ready(talk.ring_flags());
            const int code = loop.run();
            if (code != 0) {
                failed(code);
            }
            return code;
        } else {
            return -EINVAL;  // choose_path does not choose what the backend has not
        }
    }

    static void wake(const void* waker) noexcept {
        static_cast<const typename Kernel::waker*>(waker)->wake();
    }

    void demand_all_tags(int code) const {
        if (code < 0) {
            fail(code, "FETCH_REQ", plan_.granted.id,
                 "the driver refuses to hand requests of this device to this thread",
                 "report it with the kernel's version: it contradicts what START_DEV needs");
        }
    }

    [[nodiscard]] std::vector<queue> make_queues(const std::vector<queue_id>& mine) const {
        const device_info& granted = plan_.granted;
        const std::size_t page = plan_.page_size;
        const std::size_t each = granted.io_desc_size;
        std::vector<queue> all;
        all.reserve(mine.size());
        for (const queue_id id : mine) {
            const std::uint64_t offset =
                uapi::cmd_buf_offset + id.value() * uapi::cmd_buf_stride(each, page);
            mapping descriptors =
                channel_.map(offset, uapi::cmd_buf_size(granted.depth, each, page));
            all.emplace_back(id, std::move(descriptors), each, make_buffers(), granted.depth,
                             channel_.file());
        }
        return all;
    }

    [[nodiscard]] buffers make_buffers() const {
        const device_info& granted = plan_.granted;
        return has_tag_buffers(granted.path) ? buffers{granted.depth, granted.max_io_bytes,
                                                       plan_.buffer_pages, plan_.lock_buffers}
                                             : buffers{};
    }

    [[nodiscard]] std::vector<iovec> buffers_to_register(const std::vector<queue>& queues) const {
        std::vector<iovec> all;
        if (plan_.granted.path == data_path::fixed_copy) {
            for (const queue& each : queues) {
                for (std::uint16_t i = 0; i < plan_.granted.depth; ++i) {
                    all.push_back({each.data[tag{i}], each.data.stride()});
                }
            }
        }
        return all;
    }

    Backend& backend_;
    const typename Kernel::channel& channel_;
    const typename Kernel::waker& waker_;
    const std::atomic<unsigned>& orders_;
    const device_plan& plan_;
};

}  // namespace ublk::inline v0
