// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fixed_array.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/queue_context.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/options.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace ublk::inline v0::detail {

template <class Kernel>
class control_commands;

/// What the queue threads of a device need to know. `threads` is how many there are to be of a
/// queue policy that can have any number.
/// Throws: `error`.
template <class Kernel>
[[nodiscard]] device_setup make_setup(const Kernel& running, const options& requested,
                                      const device_ops<Kernel>& ops, const device_info& info,
                                      unsigned threads, control_commands<Kernel>& control) {
    device_setup setup{.granted = info,
                       .page_size = running.page_size(),
                       .requested = requested,
                       .shape = {.queues = info.queues,
                                 .depth = info.depth,
                                 .threads = threads,
                                 .per_io_daemon = info.per_io_daemon}};
    if (ops.needs_affinity) {
        setup.affinity = fixed_array<cpu_set>{info.queues};
    }
    for (std::size_t q = 0; q < setup.affinity.size(); ++q) {
        setup.affinity[q] =
            control.get_queue_affinity(info.id, queue_id{static_cast<std::uint16_t>(q)});
    }
    if (ops.neighbours != cpu_domain::none) {
        setup.neighbours = running.neighbours(requested.cpus.empty() ? std::optional<unsigned>{}
                                                                     : requested.cpus.front(),
                                              ops.neighbours);
    }
    return setup;
}

}  // namespace ublk::inline v0::detail
