// SPDX-License-Identifier: MIT
#pragma once

// All scripts. Each leaves nothing to chance on a real driver: where two things could happen in
// either order, it waits in between. A `want` is what the source of Linux 7.3 says.
//
// On 6.12 a ring that is closed while its commands are in flight has crashed the kernel, a server
// that goes away with a queue partly fetched is worth a warning there, and a device cannot be
// started a second time: such scripts are `since` 7.3.

#include "control_scripts.hpp"
#include "life_scripts.hpp"
#include "request_scripts.hpp"

namespace ublk_test::differential {

[[nodiscard]] inline scripts written_scripts() {
    scripts all;
    for (const auto part : {add_features,
                            add_unknown_commands,
                            add_unknown_devices,
                            add_add_dev,
                            add_add_dev_ids,
                            add_add_dev_flags,
                            add_add_dev_new_flags,
                            add_basic_params,
                            add_more_params,
                            add_new_params,
                            add_integrity_params,
                            add_zoned_params,
                            add_lengths_of_params,
                            add_infos,
                            add_affinities,
                            add_dead_devices,
                            add_deletion,
                            add_channels,
                            add_requests,
                            add_flushes,
                            add_trimming,
                            add_results,
                            add_errnos,
                            add_queues,
                            add_user_copy,
                            add_get_data,
                            add_fetch_errors,
                            add_commit_errors,
                            add_stopping,
                            add_starts,
                            add_restarts,
                            add_stops,
                            add_sizes,
                            add_deaths,
                            add_early_deaths,
                            add_recoveries,
                            add_lost_threads,
                            add_quiescing,
                            add_splits,
                            add_dirty_pages,
                            add_scans,
                            add_concurrent_commands,
                            add_crowded_deaths,
                            add_two_queues,
                            add_late_stops,
                            add_references,
                            add_modes}) {
        part(all);
    }
    return all;
}

}  // namespace ublk_test::differential
