// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control.hpp>
#include <ublk/features.hpp>
#include <ublk/kernel.hpp>
#include <ublk/options.hpp>
#include <ublk/params.hpp>
#include <ublk/path_choice.hpp>
#include <ublk/service.hpp>

#include <algorithm>
#include <cstdint>
#include <string>

namespace ublk::inline v0 {

/// ADD_DEV: what is asked of the driver, and what its answer means.
template <class Kernel>
class device_adder {
public:
    /// All outlive it. `cookie` is what the driver keeps of us beside the id.
    device_adder(const Kernel& running, const options& asked, std::uint64_t cookie,
                 const service<Kernel>& duty, const disk_attributes& disk) noexcept
        : kernel_{running}, asked_{asked}, cookie_{cookie}, duty_{duty}, disk_{disk} {}

    /// Adds a device by the best data path that the driver grants. `known` are the features that it
    /// says it has; `added` hears the id as soon as there is something to delete. Throws `error`.
    ///
    /// A driver may drop the features of a data path although it says that it has them; then the
    /// next one is tried.
    template <class Added>
    [[nodiscard]] device_info add(control<Kernel>& commands, std::uint64_t known,
                                  Added added) const {
        uapi::dev_info ask = wanted();
        if ((ask.flags & ~known) != 0) {
            fail(EOPNOTSUPP, "ADD_DEV", asked_.id, "the driver cannot leave partitions alone",
                 "use Linux 7.0 or newer, or options::partition_scan = true");
        }
        const std::uint64_t batches = duty_.driver_batches ? uapi::feature::batch_io & known : 0;
        const std::uint64_t common = ask.flags | batches;
        path_choice choice = duty_.choose(asked_.path, facts(known, ask));
        for (std::size_t i = 0;; ++i) {
            const data_path path = choice.candidates[i];
            ask.flags = common | features_of(path);
            const uapi::dev_info granted = commands.add_dev(ask);
            const std::uint64_t dropped = features_of(path) & ~granted.flags;
            ask.flags &= ~batches;  // which are no condition
            if (dropped == 0 || i + 1 == choice.candidates.size()) {
                added(granted.dev_id);
                check_granted(ask, granted);
                device_info info = info_of(granted, known, path, choice.reason);
                info.tags_apart =
                    duty_.splits_queues && (granted.flags & uapi::feature::per_io_daemon) != 0;
                return info;
            }
            choice.reject(path, "the driver did not grant " + describe(dropped));
            (void)commands.del_dev(granted.dev_id, asked_.command_deadline);
        }
    }

private:
    [[nodiscard]] uapi::dev_info wanted() const {
        uapi::dev_info ask;
        ask.dev_id = asked_.id.value_or(uapi::any_dev_id);
        ask.nr_hw_queues = static_cast<std::uint16_t>(
            asked_.queues != 0 ? asked_.queues
                               : std::min(kernel_.online_cpus(), uapi::max_nr_queues));
        ask.queue_depth = static_cast<std::uint16_t>(asked_.depth);
        ask.max_io_buf_bytes = asked_.max_io_bytes;
        ask.server_flags = cookie_;
        ask.flags = asked_.partition_scan ? 0 : uapi::feature::no_auto_part_scan;
        return ask;
    }

    // The driver grants at most its CPUs.
    [[nodiscard]] path_facts facts(std::uint64_t known, const uapi::dev_info& ask) const {
        const unsigned queues = std::min<unsigned>(ask.nr_hw_queues, kernel_.online_cpus());
        return {.known = known,
                .tags_a_thread = ask.queue_depth * (duty_.one_queue_a_thread ? 1u : queues),
                .buffer_bytes = std::uint64_t{queues} * ask.queue_depth * ask.max_io_buf_bytes,
                .lockable_bytes = kernel_.lockable_bytes(),
                .preferred = disk_.preferred_path,
                .driver_batches = duty_.driver_batches && (known & uapi::feature::batch_io) != 0};
    }

    // The driver drops flags in silence, and a thread has only so much room for events.
    void check_granted(const uapi::dev_info& ask, const uapi::dev_info& granted) const {
        if (const std::uint64_t dropped = ask.flags & ~granted.flags; dropped != 0) {
            fail(EOPNOTSUPP, "ADD_DEV", granted.dev_id,
                 "the driver did not grant " + describe(dropped), "do without");
        }
        // Half of io_uring's largest completion queue.
        constexpr unsigned tags_a_thread_max = 32768;
        const unsigned queues = duty_.one_queue_a_thread ? 1u : granted.nr_hw_queues;
        if (queues * unsigned{granted.queue_depth} > tags_a_thread_max) {
            fail(EINVAL, "ADD_DEV", granted.dev_id,
                 "one thread would serve " + std::to_string(queues * granted.queue_depth) +
                     " requests at once",
                 "ask for queues x depth <= 32768, or use ublk::per_cpu");
        }
    }

    [[nodiscard]] static device_info info_of(const uapi::dev_info& granted, std::uint64_t known,
                                             data_path path, const std::string& reason) {
        device_info info;
        info.id = granted.dev_id;
        info.queues = granted.nr_hw_queues;
        info.depth = granted.queue_depth;
        info.max_io_bytes = granted.max_io_buf_bytes;
        info.flags = granted.flags;
        info.driver_features = known;
        // Drivers before 7.3 leave this field as we sent it: zero.
        const bool spaced = (granted.flags & uapi::feature::io_desc_size) != 0;
        info.io_desc_size = spaced ? granted.io_desc_size : sizeof(uapi::io_desc);
        info.path = path;
        info.path_reason = reason;
        info.driver_batches = (granted.flags & uapi::feature::batch_io) != 0;
        return info;
    }

    const Kernel& kernel_;
    const options& asked_;
    std::uint64_t cookie_;
    const service<Kernel>& duty_;
    const disk_attributes& disk_;
};

}  // namespace ublk::inline v0
