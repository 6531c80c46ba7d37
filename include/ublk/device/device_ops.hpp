// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/auto_buffer.hpp>
#include <ublk/data/batch_port.hpp>
#include <ublk/data/copy.hpp>
#include <ublk/data/fixed_copy.hpp>
#include <ublk/data/lend.hpp>
#include <ublk/data/pages.hpp>
#include <ublk/data/user_copy.hpp>
#include <ublk/data/zero_copy.hpp>
#include <ublk/device/path_choice.hpp>
#include <ublk/device/queue_context.hpp>
#include <ublk/device/queue_worker.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/interleaved.hpp>
#include <ublk/policy/measuring.hpp>
#include <ublk/policy/placement.hpp>
#include <ublk/policy/pooled.hpp>
#include <ublk/policy/queue_policy.hpp>
#include <ublk/policy/wait.hpp>

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace ublk::inline v0 {

/// All that the types of a device decide, as values and functions: what is not done for each
/// request is compiled once for every device of a program.
template <class Kernel>
struct service {
    std::shared_ptr<void> backend;

    /// What a queue thread does, unless threads are shared with other devices. Throws `error` where
    /// it never gets ready; else returns 0, or the errno (negative) with which it failed.
    int (*serve)(void* backend, const queue_post<Kernel>& post);

    /// Else: gets ready. Throws `error`.
    seated (*sit)(void* backend, const queue_post<Kernel>& post);

    /// What each thread serves, and on which CPUs it runs.
    std::vector<thread_shares> (*threads)(const queue_facts& facts);
    cpu_set (*cpus)(const place_facts& facts);

    /// What a thread writes down of what it serves; may be null.
    std::shared_ptr<void> (*make_record)(const thread_shares& shares);

    path_choice (*choose)(const std::optional<data_path>& asked, const path_facts& facts);
    bool one_queue_a_thread;
    bool counts_threads;  ///< options::threads means something
    bool splits_queues;   ///< among threads, where the driver allows it
    bool needs_affinity;  ///< of the queues
    bool needs_list;      ///< of CPUs
    bool driver_batches;  ///< are asked for, where the driver has them

    // What only some devices have is null for the others, which then need not compile it.

    /// The CPUs of the domain that the threads are to run in, which has that CPU.
    cpu_set (*neighbours)(const Kernel& of, std::optional<unsigned> cpu) = nullptr;

    /// Gives the seats of a crew to the threads of a set.
    void (*join_set)(void* crew) = nullptr;
};

namespace detail {

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
    static int serve(void* backend, const queue_post<Kernel>& post) {
        return by_path<int>(backend, post,
                            [&]<class Seat>(std::in_place_type_t<Seat>, Backend& to) {
                                Seat mine{to, post};
                                return mine.begin() ? mine.run() : 0;
                            });
    }

    static seated sit(void* backend, const queue_post<Kernel>& post) {
        return by_path<seated>(backend, post,
                               [&]<class Seat>(std::in_place_type_t<Seat> of, Backend& to) {
                                   return seated{of, to, post};
                               });
    }

private:
    /// Here is the one branch on the data path.
    template <class Answer, class Take>
    static Answer by_path(void* backend, const queue_post<Kernel>& post, Take take) {
        Backend& to = *static_cast<Backend*>(backend);
        switch (post.plan.granted.path) {
        case data_path::copy:
            break;
        case data_path::fixed_copy:
            return by<Answer, paths::fixed_copy>(to, post, take);
        case data_path::user_copy:
            return by<Answer, paths::user_copy>(to, post, take);
        case data_path::lend:
            return by<Answer, paths::lend>(to, post, take);
        case data_path::zero_copy:
            return by<Answer, paths::zero_copy>(to, post, take);
        case data_path::pages:
            return by<Answer, paths::pages>(to, post, take);
        case data_path::auto_buffer:
            return by<Answer, paths::auto_buffer>(to, post, take);
        }
        return by<Answer, paths::copy>(to, post, take);
    }

    /// And here the one on the driver's batches, for a device that would have them.
    template <class Answer, class Path, class Take>
    static Answer by(Backend& backend, const queue_post<Kernel>& post, Take take) {
        using port = typename Kernel::port;
        if constexpr (!offers<Backend>(Path::id)) {
            UBLK_ASSERT(false, "a data path is chosen among those that the backend has");
            return Answer{};
        } else if constexpr (in_batches<BatchPolicy, Kernel> && batches_carry(Path::id)) {
            using wire = typename Kernel::batch_wire;
            using batches = batch_port<wire, has_tag_buffers(Path::id)>;
            return (post.plan.granted.flags & uapi::feature::batch_io) != 0
                       ? take(seat_at<Path, batches>, backend)
                       : take(seat_at<Path, port>, backend);
        } else {
            return take(seat_at<Path, port>, backend);
        }
    }

    template <class Path, class Port>
    static constexpr std::in_place_type_t<
        seat<Backend, QueuePolicy, BatchPolicy, Path, Port, Kernel>>
        seat_at{};
};

}  // namespace detail

/// Of a device with that backend and those policies.
template <class Backend, class QueuePolicy, class BatchPolicy, class Kernel>
[[nodiscard]] service<Kernel> service_of(std::shared_ptr<Backend> backend) {
    static_assert(queue_policy<QueuePolicy>,
                  "ublk: a queue policy needs: static std::vector<ublk::thread_shares> "
                  "threads(const ublk::queue_facts&); static constexpr bool one_queue_a_thread;");
    static_assert(measuring_policy<measuring_of<QueuePolicy>>,
                  "ublk: a queue policy's `measuring` is ublk::stats, ublk::no_stats, or what "
                  "measuring.hpp asks for");
    static_assert(!splits_queues<QueuePolicy> || !batches_by_driver<BatchPolicy>,
                  "ublk: with driver_batches the driver picks the thread for each request, and "
                  "interleaved gives each tag a thread of its own: take per_cpu or shared, or "
                  "another batch policy");
    static_assert(!on_thread_set<QueuePolicy> ||
                      (std::is_same_v<waiting_of<QueuePolicy>, waits::block> &&
                       std::is_same_v<placement_of<QueuePolicy>, places::anywhere>),
                  "ublk: the threads of a set wait and run as the set has them: see "
                  "thread_set_options, and take waits and places out of with<pooled, ...>");
    using placement = placement_of<QueuePolicy>;
    using served = detail::served<Backend, QueuePolicy, BatchPolicy, Kernel>;
    int (*serve)(void*, const queue_post<Kernel>&) = nullptr;
    seated (*sit)(void*, const queue_post<Kernel>&) = nullptr;
    if constexpr (on_thread_set<QueuePolicy>) {
        sit = served::sit;
    } else {
        serve = served::serve;
    }
    cpu_set (*neighbours)(const Kernel&, std::optional<unsigned>) = nullptr;
    if constexpr (placement::domain != cpu_domain::none) {
        neighbours = [](const Kernel& of, std::optional<unsigned> cpu) {
            return of.neighbours(cpu, placement::domain);
        };
    }
    return {.backend = std::move(backend),
            .serve = serve,
            .sit = sit,
            .threads = QueuePolicy::threads,
            .cpus = placement::cpus,
            .make_record = measuring_of<QueuePolicy>::make_record,
            .choose = choose_path<Backend>,
            .one_queue_a_thread = QueuePolicy::one_queue_a_thread,
            .counts_threads = counts_threads<QueuePolicy>,
            .splits_queues = splits_queues<QueuePolicy>,
            .needs_affinity = placement::needs_affinity,
            .needs_list = placement::needs_list,
            .driver_batches = detail::in_batches<BatchPolicy, Kernel>,
            .neighbours = neighbours};
}

}  // namespace ublk::inline v0
