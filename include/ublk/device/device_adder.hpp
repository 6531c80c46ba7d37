// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/device/device_identity.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/granted_info.hpp>
#include <ublk/device/path_choice.hpp>
#include <ublk/device/thread_limits.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/features.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/options.hpp>

#include <algorithm>
#include <cstdint>
#include <string>

namespace ublk::inline v0::detail {

template <class Kernel>
class control_commands;

/// What the queue policy has no use for is a mistake, as is the lack of what it needs.
template <class Kernel>
void check_policy_options(const options& requested, const device_ops<Kernel>& ops) {
    if (requested.threads != 0 && !ops.takes_thread_count) {
        bad_option("threads is " + std::to_string(requested.threads) +
                       ", and the queue policy has a number of its own",
                   "leave it 0, or use ublk::interleaved");
    }
    if (ops.needs_list && requested.cpus.empty()) {
        bad_option("cpus is empty, and the queue policy goes by that list",
                   "name at least one CPU");
    }
}

/// ADD_DEV: what is asked of the driver, and what its answer means.
template <class Kernel>
class device_adder {
public:
    /// All outlive it. `threads` is how many a
    /// queue policy may have that does not decide that itself.
    device_adder(const Kernel& running, const options& requested, device_identity identity,
                 const device_ops<Kernel>& ops, const disk_attributes& disk, unsigned threads,
                 const refused_setups& refused) noexcept
        : kernel_{running}, requested_{requested}, identity_{identity}, ops_{ops}, disk_{disk},
          threads_{threads}, refused_{refused} {}

    /// Whether there is a data path that was not refused yet.
    [[nodiscard]] bool may_add(std::uint64_t known) const {
        try {
            return !choose_path(ops_.offers, requested_.path, facts(known, wanted(known)))
                        .candidates.empty();
        } catch (const error&) {
            return false;
        }
    }

    /// Adds a device by the best data path that the driver grants. `known` are the features that it
    /// says it has; `added` hears the id as soon as there is something to delete. Throws `error`.
    ///
    /// A driver may drop the features of a data path although it says that it has them; then the
    /// next one is tried.
    template <class Added>
    [[nodiscard]] device_info add(control_commands<Kernel>& commands, std::uint64_t known,
                                  Added added) const {
        if (requested_.recovery == recovery_kind::reissue && !disk_.idempotent) {
            bad_option("recovery is reissue, and the backend does not say that it is idempotent",
                       "choose fail_in_flight, or give the backend `static constexpr bool "
                       "idempotent = true;` where a request may be served twice");
        }
        uapi::dev_info ask = wanted(known);
        check_known(ask.flags, known);
        const bool lacks_spacing =
            requested_.io_desc_size != 0 && (ask.flags & uapi::feature::io_desc_size) == 0;
        if (lacks_spacing && !requested_.fall_back) {
            fail(EOPNOTSUPP, "ADD_DEV", requested_.id, "the driver's descriptors have one size",
                 "use Linux 7.3 or newer, options::io_desc_size = 0, or options::fall_back");
        }
        const std::uint64_t batches = batches_of(known);
        const std::uint64_t common = ask.flags | batches;
        path_choice choice = choose_path(ops_.offers, requested_.path, facts(known, ask));
        for (std::size_t i = 0;; ++i) {
            const data_path path = choice.candidates[i];
            ask.flags = common | features_of(path);
            const uapi::dev_info granted = commands.add_dev(ask);
            const std::uint64_t dropped = features_of(path) & ~granted.flags;
            ask.flags &= ~batches;  // which are no condition
            if (dropped == 0 || i + 1 == choice.candidates.size()) {
                added(granted.dev_id);
                check_granted(ask, granted);
                device_info info = granted_info(granted, known, path, choice.why());
                info.per_io_daemon = per_io_daemon(granted.flags);
                if (lacks_spacing) {
                    info.fallbacks.push_back("descriptors take 24 bytes: the driver has no "
                                             "IO_DESC_SIZE, which came with Linux 7.3");
                }
                return info;
            }
            choice.reject(path, "the driver did not grant " + describe(dropped));
            (void)commands.del_dev(granted.dev_id, requested_.command_deadline);
        }
    }

private:
    /// What no other way of serving could do without.
    void check_known(std::uint64_t wanted, std::uint64_t known) const {
        if ((wanted & uapi::feature::no_auto_part_scan & ~known) != 0) {
            fail(EOPNOTSUPP, "ADD_DEV", requested_.id, "the driver cannot leave partitions alone",
                 "use Linux 7.0 or newer, or options::partition_scan = true");
        }
        if ((wanted & ~known) != 0) {
            fail(EOPNOTSUPP, "ADD_DEV", requested_.id,
                 "the driver has no recovery of the kind " +
                     std::string{to_string(requested_.recovery)} + ", which came with Linux " +
                     since(wanted & ~known).value_or(kernel_version{}).text(),
                 "use a newer kernel, or another options::recovery");
        }
    }

    [[nodiscard]] uapi::dev_info wanted(std::uint64_t known) const {
        uapi::dev_info ask;
        ask.dev_id = requested_.id.value_or(uapi::any_dev_id);
        ask.nr_hw_queues = static_cast<std::uint16_t>(
            requested_.queues != 0 ? requested_.queues : usual_queues(per_io_daemon(known)));
        ask.queue_depth = static_cast<std::uint16_t>(requested_.depth);
        ask.max_io_buf_bytes = requested_.max_io_bytes;
        ask.server_flags = identity_.server_flags();
        ask.flags = requested_.partition_scan ? 0 : uapi::feature::no_auto_part_scan;
        ask.flags |= features_of(requested_.recovery);
        if (requested_.recovery != recovery_kind::none) {
            ask.flags |= uapi::feature::quiesce & known;
        }
        if (requested_.io_desc_size != 0 && (known & uapi::feature::io_desc_size) != 0) {
            ask.io_desc_size = requested_.io_desc_size;
            ask.flags |= uapi::feature::io_desc_size;
        }
        return ask;
    }

    [[nodiscard]] std::uint64_t batches_of(std::uint64_t known) const noexcept {
        const bool wanted = ops_.batch_io && refused_.batches.empty();
        return wanted ? uapi::feature::batch_io & known : 0;
    }

    [[nodiscard]] bool per_io_daemon(std::uint64_t features) const noexcept {
        return ops_.shares_tags && (features & uapi::feature::per_io_daemon) != 0;
    }

    [[nodiscard]] thread_load load(unsigned queues, unsigned depth, bool apart) const {
        return load_of(ops_.threads({queues, depth, threads_, apart}), depth);
    }

    /// One for each CPU, or as many as the threads of this policy can serve: a process has 65530
    /// mappings by default (vm.max_map_count).
    [[nodiscard]] unsigned usual_queues(bool apart) const {
        constexpr std::size_t shares_max = 16384;
        unsigned queues = std::min(kernel_.online_cpus(), uapi::max_nr_queues);
        for (thread_load now = load(queues, requested_.depth, apart);
             queues > 1 && (now.tags > tags_a_thread_max || now.shares > shares_max);
             now = load(queues, requested_.depth, apart)) {
            queues = queues * 3 / 4;
        }
        return queues;
    }

    // The driver grants at most its CPUs.
    [[nodiscard]] path_facts facts(std::uint64_t known, const uapi::dev_info& ask) const {
        const unsigned queues = std::min<unsigned>(ask.nr_hw_queues, kernel_.online_cpus());
        const std::uint64_t buffers =
            std::uint64_t{ask.nr_hw_queues} * ask.queue_depth * ask.max_io_buf_bytes;
        return {.known = known,
                .tags_a_thread =
                    static_cast<unsigned>(load(queues, ask.queue_depth, per_io_daemon(known)).tags),
                .refused = refused_.paths,
                .preferred = disk_.preferred_path,
                .batch_io = batches_of(known) != 0,
                .tag_buffers = buffers,
                .tag_buffers_max = ops_.on_thread_set ? 0 : requested_.tag_buffers_max};
    }

    // The driver drops flags in silence.
    void check_granted(const uapi::dev_info& ask, const uapi::dev_info& granted) const {
        if (const std::uint64_t dropped = ask.flags & ~granted.flags; dropped != 0) {
            fail(EOPNOTSUPP, "ADD_DEV", granted.dev_id,
                 "the driver did not grant " + describe(dropped), "do without");
        }
        check_load(load(granted.nr_hw_queues, granted.queue_depth, per_io_daemon(granted.flags)),
                   "ADD_DEV", granted.dev_id);
    }

    const Kernel& kernel_;
    const options& requested_;
    device_identity identity_;
    const device_ops<Kernel>& ops_;
    const disk_attributes& disk_;
    unsigned threads_;
    const refused_setups& refused_;
};

}  // namespace ublk::inline v0::detail
