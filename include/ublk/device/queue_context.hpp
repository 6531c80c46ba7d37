// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue_progress.hpp>
#include <ublk/detail/cpu_set.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/device/fallback_list.hpp>
#include <ublk/error.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/setup_refused.hpp>
#include <ublk/options.hpp>
#include <ublk/policy/placement.hpp>
#include <ublk/policy/queue_policy.hpp>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0::detail {

/// What the queue threads need to know of their device.
struct device_setup {
    device_info granted;
    std::size_t page_size;
    options requested;
    fixed_array<cpu_set> affinity{};              ///< one a queue
    std::vector<const registered_file*> files{};  ///< of the backend
    queue_facts shape{};                          ///< what there is for threads to serve
    cpu_set neighbours{};

    // Spans by hand: from containers they take compilers long.
    /// By which the policy places one thread.
    [[nodiscard]] place_facts place_of(const thread_shares& mine, std::size_t thread) const {
        return {.queue_cpus = {affinity.begin(), affinity.size()},
                .mine = {mine.data(), mine.size()},
                .thread = thread,
                .listed = {requested.cpus.data(), requested.cpus.size()},
                .neighbours = neighbours};
    }

    /// Says why a thread cannot be where its policy wants it, or throws where it must.
    [[nodiscard]] std::string affinity_refused(bool of_set) const {
        const std::string threads = of_set ? "the threads of the set" : "the queue threads";
        const std::string cause = "this process may not use the CPUs that " +
                                  std::string{of_set ? "thread_set_options::cpus names"
                                                     : "the queue policy has for them"};
        if (!requested.fall_back) {
            fail(EINVAL, "placing " + threads, granted.id, cause,
                 std::string{"start the program with those CPUs (taskset, cpuset), or "} +
                     (of_set ? "make the set without cpus"
                             : "take a policy that leaves threads where they are") +
                     ", or options::fall_back");
        }
        return threads + " run where the scheduler puts them: " + cause;
    }

    /// Why the driver refuses a thread that offers its tags.
    [[nodiscard]] std::exception_ptr fetch_refused(int code) const {
        if (granted.batch_io) {
            return std::make_exception_ptr(
                setup_refused{setup_refused::kind::batches, code, "PREP_IO_CMDS", granted.id,
                              "the driver refuses batches that it has granted",
                              "leave options::fall_back, or take another batch policy"});
        }
        return std::make_exception_ptr(
            error{code, "FETCH_REQ", granted.id,
                  "the driver refuses to hand requests of this device to this thread",
                  "report it with the kernel's version: it contradicts what START_DEV needs"});
    }
};

/// What one queue thread has. All that it refers to outlives it.
template <class Kernel>
struct queue_context {
    const typename Kernel::channel& channel;
    const typename Kernel::wakeup& wakeup;
    const std::atomic<unsigned>& flags;
    const device_setup& setup;
    const thread_shares& mine;
    const void* wakeup_event;  ///< of Kernel's; null on a thread of the device's own
    void* record;              ///< of the measuring policy's
    queue_progress& progress;
    fallback_list<Kernel>& fallbacks;
};

}  // namespace ublk::inline v0::detail
