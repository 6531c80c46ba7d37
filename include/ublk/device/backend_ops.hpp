// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/backend.hpp>
#include <ublk/data/batch_port.hpp>
#include <ublk/data/data_paths.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/queue_context.hpp>
#include <ublk/device/queue_worker.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace ublk::inline v0::detail {

/// Whether a device with that policy asks for the driver's batches.
template <class BatchPolicy, class Kernel>
inline constexpr bool in_batches = false;
template <class BatchPolicy, class Kernel>
    requires requires {
        typename Kernel::batch_wire;
    }
inline constexpr bool in_batches<BatchPolicy, Kernel> = batch_policy_traits<BatchPolicy>::by_driver;

template <class Backend, class QueuePolicy, class BatchPolicy, class Kernel>
struct worker_maker {
    /// Here is the one branch on the data path.
    static any_queue_worker make(void* backend, const queue_context<Kernel>& context) {
        switch (context.setup.granted.path) {
        case data_path::copy:
        case data_path::thread_copy:  // the same loop, whose tags have no buffers
            break;
        case data_path::fixed_copy:
            return by<paths::fixed_copy>(backend, context);
        case data_path::user_copy:
            return by<paths::user_copy>(backend, context);
        case data_path::get_data:
            return by<paths::get_data>(backend, context);
        case data_path::zero_copy:
            return by<paths::zero_copy>(backend, context);
        case data_path::pages:
            return by<paths::pages>(backend, context);
        case data_path::auto_buffer:
            return by<paths::auto_buffer>(backend, context);
        }
        return by<paths::copy>(backend, context);
    }

private:
    /// And here the one on the driver's batches, for a device that would have them.
    template <class Path>
    static any_queue_worker by(void* backend, const queue_context<Kernel>& context) {
        using port = typename Kernel::port;
        if constexpr (!offers<Backend>(Path::id)) {
            UBLK_ASSERT(false, "a data path is chosen among those that the backend has");
            return {};
        } else if constexpr (in_batches<BatchPolicy, Kernel> && batches_carry(Path::id)) {
            using batches = batch_port<typename Kernel::batch_wire, has_tag_buffers(Path::id)>;
            return (context.setup.granted.flags & uapi::feature::batch_io) != 0
                       ? with<Path, batches>(backend, context)
                       : with<Path, port>(backend, context);
        } else {
            return with<Path, port>(backend, context);
        }
    }

    template <class Path, class Port>
    static any_queue_worker with(void* backend, const queue_context<Kernel>& context) {
        using worker = queue_worker<Backend, QueuePolicy, BatchPolicy, Path, Port, Kernel>;
        return any_queue_worker{std::make_unique<worker>(*static_cast<Backend*>(backend), context)};
    }
};

/// Of a device with that backend and those policies.
template <class Backend, class QueuePolicy, class BatchPolicy, class Kernel>
[[nodiscard]] device_ops<Kernel> device_ops_of(std::shared_ptr<Backend> backend) {
    using traits = queue_policy_traits<QueuePolicy>;
    static_assert(queue_policy<QueuePolicy>,
                  "ublk: a queue policy needs: static std::vector<ublk::thread_shares> "
                  "threads(const ublk::queue_facts&); static constexpr bool single_queue;");
    static_assert(measuring_policy<typename traits::measuring>,
                  "ublk: a queue policy's `measuring` is ublk::stats, ublk::no_stats, or what "
                  "measuring.hpp asks for");
    static_assert(!traits::shares_tags || !batch_policy_traits<BatchPolicy>::by_driver,
                  "ublk: with batch_io the driver picks the thread for each request, and "
                  "interleaved gives each tag a thread of its own: take per_cpu or shared, or "
                  "another batch policy");
    static_assert(!traits::on_thread_set ||
                      (std::is_same_v<typename traits::waiting, waits::block> &&
                       std::is_same_v<typename traits::placement, places::anywhere>),
                  "ublk: the threads of a set wait and run as the set has them: see "
                  "thread_set_options, and take waits and places out of with<pooled, ...>");
    using placement = typename traits::placement;
    return {.backend = std::move(backend),
            .attributes =
                [](const void* of) { return attributes_of(*static_cast<const Backend*>(of)); },
            .make_worker = worker_maker<Backend, QueuePolicy, BatchPolicy, Kernel>::make,
            .threads = QueuePolicy::threads,
            .cpus = placement::cpus,
            .make_record = traits::measuring::make_record,
            .offers = offers<Backend>,
            .single_queue = QueuePolicy::single_queue,
            .on_thread_set = traits::on_thread_set,
            .takes_thread_count = traits::takes_thread_count,
            .shares_tags = traits::shares_tags,
            .needs_affinity = placement::needs_affinity,
            .needs_list = placement::needs_list,
            .batch_io = in_batches<BatchPolicy, Kernel>,
            .neighbours = placement::domain,
            .scheduled = scheduling_of<placement>};
}

}  // namespace ublk::inline v0::detail
