// SPDX-License-Identifier: MIT
#pragma once

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
};

namespace detail {

template <class Backend, class QueuePolicy, class BatchPolicy, class Kernel>
struct served {
    using port = typename Kernel::port;

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

    template <class Path>
    static int by(Backend& backend, const queue_post<Kernel>& post) {
        if constexpr (offers<Backend>(Path::id)) {
            // Before the port, so that the ring goes first at the end: until then the driver may
            // still copy a write into a buffer whose tag it holds.
            std::vector<queue> queues = post.make_queues();
            const std::vector<iovec> tag_buffers = post.buffers_to_register(queues);
            const auto tags = static_cast<unsigned>(queues.size()) * post.plan.granted.depth;
            constexpr bool async = asynchronous<Backend, typename Path::payload>;
            port talk{post.channel, post.waker,
                      port_needs{.tags = tags,
                                 .operations = async ? tags * operations_in_flight<Backend> : 0,
                                 .reserved_buffers = registers_requests(Path::id) ? tags : 0,
                                 .tag_buffers = tag_buffers,
                                 .files = post.plan.files}};
            server<Backend, BatchPolicy, port, QueuePolicy::one_queue_a_thread, Path> loop{
                backend, talk, queues, post.orders, rouser{post.wake, &post.waker}};
            post.demand_all_tags(loop.fetch_all());
            post.ready(post.whom, talk.ring_flags());
            const int code = loop.run();
            if (code != 0) {
                post.failed(post.whom, code);
            }
            return code;
        } else {
            return -EINVAL;  // choose_path does not choose what the backend has not
        }
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
            .pinned = QueuePolicy::pinned};
}

}  // namespace ublk::inline v0
