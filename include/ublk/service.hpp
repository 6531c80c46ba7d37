// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/batch_policy/batch_policy.hpp>
#include <ublk/batch_port.hpp>
#include <ublk/data_path/auto_buffer.hpp>
#include <ublk/data_path/copy.hpp>
#include <ublk/data_path/fixed_copy.hpp>
#include <ublk/data_path/lend.hpp>
#include <ublk/data_path/pages.hpp>
#include <ublk/data_path/user_copy.hpp>
#include <ublk/data_path/zero_copy.hpp>
#include <ublk/path_choice.hpp>
#include <ublk/queue_policy/queue_policy.hpp>
#include <ublk/queue_post.hpp>
#include <ublk/server.hpp>

#include <sys/uio.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// All that the types of a device decide, as values and functions: what is not done for each
/// request is compiled once for every device of a program.
template <class Kernel>
struct service {
    std::shared_ptr<void> backend;

    /// What a queue thread does. Throws `error` where it never gets ready; else returns 0, or the
    /// errno (negative) with which it failed.
    int (*serve)(void* backend, const queue_post<Kernel>& post);

    /// Which queues each thread serves.
    std::vector<std::vector<queue_id>> (*threads)(unsigned queues);

    path_choice (*choose)(const std::optional<data_path>& asked, const path_facts& facts);
    bool one_queue_a_thread;
    bool pinned;
    bool driver_batches;  ///< are asked for, where the driver has them
};

namespace detail {

/// What goes with each tag in the driver's batches.
[[nodiscard]] constexpr std::uint16_t batch_flags_of(data_path path) noexcept {
    return path == data_path::auto_buffer ? uapi::batch_flag::auto_buf_reg_fallback
           : has_tag_buffers(path)        ? uapi::batch_flag::has_buf_addr
                                          : std::uint16_t{0};
}

/// Whether a device with that policy asks for the driver's batches.
template <class BatchPolicy, class Kernel>
inline constexpr bool in_batches = false;
template <class BatchPolicy, class Kernel>
    requires requires {
        typename Kernel::batch_wire;
    }
inline constexpr bool in_batches<BatchPolicy, Kernel> = batches_by_driver<BatchPolicy>;

template <class Backend, class QueuePolicy, class BatchPolicy, class Kernel>
struct served {
    /// Here is the one branch on the data path.
    static int by_path(void* backend, const queue_post<Kernel>& post) {
        Backend& to = *static_cast<Backend*>(backend);
        switch (post.plan.granted.path) {
        case data_path::copy:
            return by<paths::copy>(to, post);
        case data_path::fixed_copy:
            return by<paths::fixed_copy>(to, post);
        case data_path::user_copy:
            return by<paths::user_copy>(to, post);
        case data_path::lend:
            return by<paths::lend>(to, post);
        case data_path::zero_copy:
            return by<paths::zero_copy>(to, post);
        case data_path::pages:
            return by<paths::pages>(to, post);
        case data_path::auto_buffer:
            return by<paths::auto_buffer>(to, post);
        }
        return -EINVAL;
    }

    /// And here the one on the driver's batches, for a device that would have them.
    template <class Path>
    static int by(Backend& backend, const queue_post<Kernel>& post) {
        if constexpr (!offers<Backend>(Path::id)) {
            return -EINVAL;  // choose_path does not choose what the backend has not
        } else if constexpr (in_batches<BatchPolicy, Kernel> && batches_carry(Path::id)) {
            using wire = typename Kernel::batch_wire;
            using batches = batch_port<wire, has_tag_buffers(Path::id)>;
            return (post.plan.granted.flags & uapi::feature::batch_io) != 0
                       ? through<Path, batches>(backend, post)
                       : through<Path, typename Kernel::port>(backend, post);
        } else {
            return through<Path, typename Kernel::port>(backend, post);
        }
    }

    template <class Path, class Port>
    static int through(Backend& backend, const queue_post<Kernel>& post) {
        // Before the port, so that the ring goes first at the end: until then the driver may still
        // copy a write into a buffer whose tag it holds.
        std::vector<queue> queues = post.make_queues();
        const std::vector<iovec> tag_buffers = post.buffers_to_register(queues);
        const auto tags = static_cast<unsigned>(queues.size()) * post.plan.granted.depth;
        constexpr bool async = asynchronous<Backend, typename Path::payload>;
        Port talk{post.channel, post.waker,
                  port_needs{.tags = tags,
                             .operations = async ? tags * operations_in_flight<Backend> : 0,
                             .reserved_buffers = registers_requests(Path::id) ? tags : 0,
                             .tag_buffers = tag_buffers,
                             .files = post.plan.files,
                             .queues = post.mine,
                             .depth = post.plan.granted.depth,
                             .batch_flags = batch_flags_of(Path::id)}};
        server<Backend, BatchPolicy, Port, QueuePolicy::one_queue_a_thread, Path> loop{
            backend, talk, queues, post.orders, rouser{post.wake, &post.waker}};
        post.demand_all_tags(loop.fetch_all());
        post.ready(post.whom, talk.ring_flags());
        const int code = loop.run();
        if (code != 0) {
            post.failed(post.whom, code);
        }
        return code;
    }
};

}  // namespace detail

/// Of a device with that backend and those policies.
template <class Backend, class QueuePolicy, class BatchPolicy, class Kernel>
[[nodiscard]] service<Kernel> service_of(std::shared_ptr<Backend> backend) {
    static_assert(queue_policy<QueuePolicy>,
                  "ublk: a queue policy needs: static std::vector<std::vector<ublk::queue_id>> "
                  "threads(unsigned queues); static constexpr bool one_queue_a_thread, pinned;");
    return {.backend = std::move(backend),
            .serve = detail::served<Backend, QueuePolicy, BatchPolicy, Kernel>::by_path,
            .threads = QueuePolicy::threads,
            .choose = choose_path<Backend>,
            .one_queue_a_thread = QueuePolicy::one_queue_a_thread,
            .pinned = QueuePolicy::pinned,
            .driver_batches = detail::in_batches<BatchPolicy, Kernel>};
}

}  // namespace ublk::inline v0
