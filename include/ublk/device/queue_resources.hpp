// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue.hpp>
#include <ublk/data/tag_buffers.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/device/queue_context.hpp>

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace ublk::inline v0::detail {

/// What one thread has of the queues that it serves: descriptors, tag buffers, and what its ring is
/// to know of them. Made by that thread, so that the memory comes from its NUMA node.
struct queue_resources {
    /// Maps and allocates. Throws `error`.
    template <class Kernel>
    explicit queue_resources(const queue_context<Kernel>& context)
        : queues{context.mine.size()}, ids{context.mine.size()} {
        const device_info& granted = context.setup.granted;
        const std::size_t page = context.setup.page_size;
        const std::size_t each = granted.io_desc_size;
        if (granted.path == data_path::thread_copy) {
            thread_buffer = make_buffers(context, 1, 1, false);
        }
        for (std::size_t i = 0; i < queues.size(); ++i) {
            const queue_share& share = context.mine[i];
            const std::uint64_t offset =
                uapi::cmd_buf_offset + share.queue.value() * uapi::cmd_buf_stride(each, page);
            mapping descriptors =
                context.channel.map(offset, uapi::cmd_buf_size(granted.depth, each, page));
            queues[i] = queue{share.queue,   std::move(descriptors),
                              each,          make_tag_buffers(context, share.step),
                              granted.depth, context.channel.file()}
                            .share(share.first, share.step);
            queues[i].thread_buffer = {thread_buffer[tag{}], thread_buffer.stride()};
            ids[i] = share.queue;
            tags += (granted.depth - share.first + share.step - 1u) / share.step;
        }
        if (granted.path == data_path::fixed_copy) {
            list_buffers(granted.depth);
        }
    }

    fixed_array<queue> queues;
    fixed_array<queue_id> ids;
    fixed_array<iovec> registered{};  ///< tag buffers that the ring is to register
    tag_buffers thread_buffer{};      ///< one for all tags, of `thread_copy`
    unsigned tags = 0;                ///< that the thread has

private:
    template <class Kernel>
    [[nodiscard]] static tag_buffers make_tag_buffers(const queue_context<Kernel>& context,
                                                      std::uint16_t step) {
        const device_info& granted = context.setup.granted;
        return has_tag_buffers(granted.path) ? make_buffers(context, granted.depth, step, true)
                                             : tag_buffers{};
    }

    template <class Kernel>
    [[nodiscard]] static tag_buffers make_buffers(const queue_context<Kernel>& context,
                                                  std::size_t count, std::size_t step, bool touch) {
        const options& requested = context.setup.requested;
        tag_buffers made{
            count,
            context.setup.granted.max_io_bytes,
            {requested.tag_buffer_memory, requested.lock_buffers, !requested.fall_back, touch},
            step};
        if (!made.fallback().empty()) {
            context.fallbacks.note(made.fallback());
        }
        return made;
    }

    void list_buffers(unsigned depth) {
        registered = fixed_array<iovec>{queues.size() * depth};
        for (std::size_t q = 0; q < queues.size(); ++q) {
            const queue& each = queues[q];
            for (unsigned i = each.first; i < depth; i += each.step) {
                const tag ours{static_cast<std::uint16_t>(i)};
                registered[q * depth + i] = {each.data[ours], each.data.stride()};
            }
        }
    }
};

}  // namespace ublk::inline v0::detail
