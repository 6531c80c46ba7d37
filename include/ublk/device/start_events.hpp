// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/event.hpp>
#include <ublk/kernel/setup_refused.hpp>
#include <ublk/options.hpp>

#include <cerrno>
#include <string>

namespace ublk::inline v0::detail {

/// What a start tells the event hook.
class start_events {
public:
    /// Both outlive it.
    start_events(const options& requested, const device_info& info) noexcept
        : requested_{requested}, info_{info} {}

    void path() const {
        tell(event::kind::setup,
             "data path " + std::string{to_string(info_.path)} + " (" + info_.path_reason + ")");
    }

    /// `cpus` is how many queues there would have been.
    void shape(unsigned cpus, bool shares_tags) const {
        if (requested_.queues == 0 && info_.queues < cpus) {
            tell(event::kind::setup,
                 std::to_string(info_.queues) + " queues for " + std::to_string(cpus) +
                     " CPUs, since its threads could not serve more at this depth");
        }
        if (shares_tags && !info_.per_io_daemon) {
            tell(event::kind::setup,
                 "each queue has one thread, since tags of their own came with Linux 6.16");
        }
    }

    void fallbacks() const {
        for (const std::string& each : info_.fallbacks) {
            tell(event::kind::fallback, each);
        }
    }

private:
    void tell(event::kind type, const std::string& message) const {
        if (requested_.on_event) {
            requested_.on_event({type, info_.id, message});
        }
    }

    const options& requested_;
    const device_info& info_;
};

/// That the driver's batches were asked for and are not there, as `device_info::fallbacks` has it.
/// Throws: `error` where they must be.
[[nodiscard]] inline std::string without_batches(const options& requested, std::uint32_t id,
                                                 const refused_setups& refused) {
    if (!requested.fall_back) {
        fail(EOPNOTSUPP, "ADD_DEV", id, "the driver has no batches",
             "use Linux 7.0 or newer, another batch policy, or options::fall_back");
    }
    return "completions go back once a wake-up: " +
           (refused.batches.empty() ? "the driver has no batches, which came with Linux 7.0"
                                    : refused.batches);
}

}  // namespace ublk::inline v0::detail
