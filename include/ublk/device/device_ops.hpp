// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/cpu_set.hpp>
#include <ublk/device/any_queue_worker.hpp>
#include <ublk/device/path_choice.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/policy/placement.hpp>
#include <ublk/policy/queue_policy.hpp>

#include <memory>
#include <optional>
#include <vector>

namespace ublk::inline v0::detail {

template <class Kernel>
struct queue_context;

/// All that the types of a device decide, as values and functions: what is not done for each
/// request is compiled once for every device of a program.
template <class Kernel>
struct device_ops {
    std::shared_ptr<void> backend;

    /// What the disk shows, as the backend has it now.
    disk_attributes (*attributes)(const void* backend);

    /// Gets one thread's part of a device ready, on that thread. Throws `error`.
    any_queue_worker (*make_worker)(void* backend, const queue_context<Kernel>& context);

    /// What each thread serves, and on which CPUs it runs.
    std::vector<thread_shares> (*threads)(const queue_facts& facts);
    cpu_set (*cpus)(const place_facts& facts);

    /// What a thread writes down of what it serves; may be null.
    std::shared_ptr<void> (*make_record)(const thread_shares& shares);

    bool (*offers)(data_path path);  ///< whether the backend has functions for it
    bool single_queue;               ///< a thread serves one queue
    bool on_thread_set;              ///< whose threads have other devices as well
    bool takes_thread_count;         ///< options::threads means something
    bool shares_tags;                ///< among threads, where the driver allows it
    bool needs_affinity;             ///< of the queues
    bool needs_list;                 ///< of CPUs
    bool batch_io;                   ///< is asked for, where the driver has it
    cpu_domain neighbours;           ///< in which the threads are to run
    scheduling scheduled;            ///< how the scheduler is to treat them
};

}  // namespace ublk::inline v0::detail
