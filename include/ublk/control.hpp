// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control/control_commands.hpp>
#include <ublk/device/granted_info.hpp>
#include <ublk/kernel/disk_write_back.hpp>
#include <ublk/kernel/exclusive_use.hpp>
#include <ublk/kernel/linux_kernel.hpp>
#include <ublk/time_limit.hpp>
#include <ublk/uapi.hpp>

#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace ublk::inline v0 {

namespace uapi {

/// "dead", "live", "quiesced" or "fail_io", as the driver's header has them.
[[nodiscard]] constexpr std::string_view to_string(dev_state state) noexcept {
    switch (state) {
    case dev_state::dead:
        return "dead";
    case dev_state::live:
        return "live";
    case dev_state::quiesced:
        return "quiesced";
    case dev_state::fail_io:
        return "fail_io";
    }
    return "unknown";
}

}  // namespace uapi

/// Administration of ublk devices, whoever serves them: for tools, and for what crashed servers
/// leave behind. Needs CAP_SYS_ADMIN, or for an unprivileged device its owner.
///
///     ublk::control control;
///     for (const ublk::uapi::dev_info& each : control.list()) { ... to_string(each.state) ... }
///
/// Throws: `error` where the driver refuses, where the id does not exist (ENODEV), and where there
/// is no answer within the deadline of the constructor (ETIMEDOUT).
/// Thread: one at a time, and none that serves a ublk device.
class control {
public:
    /// Opens /dev/ublk-control.
    ///
    /// Range: `command_deadline` at least 1 ms, for each command.
    /// Throws: `error` where the driver is missing (ENOENT) or closed to this user (EACCES).
    explicit control(time_limit command_deadline = std::chrono::seconds{10})
        : deadline_{command_deadline}, commands_{detail::linux_kernel{}, command_deadline} {}

    /// All devices, by id. One that goes away meanwhile is left out.
    [[nodiscard]] std::vector<uapi::dev_info> list() {
        std::vector<uapi::dev_info> all;
        for (const std::uint32_t id : ids()) {
            try {
                all.push_back(commands_.get_dev_info(id));
            } catch (const error& failed) {
                if (failed.errno_value() != ENODEV) {
                    throw;
                }
            }
        }
        return all;
    }

    /// State, pid of the server, queues, depth and flags of one device (GET_DEV_INFO).
    [[nodiscard]] uapi::dev_info info(std::uint32_t id) { return commands_.get_dev_info(id); }

    /// Removes the disk /dev/ublkbN after its dirty pages were written back through its server, and
    /// ends the server's service (STOP_DEV). The device stays, dead.
    ///
    /// Throws: ETIMEDOUT where the server does not answer; the kernel goes on with the stop. Of a
    /// disk with recovery nothing has been stopped then, if it was still being written back.
    void stop(std::uint32_t id) {
        const uapi::dev_info found = info(id);  // to stop nothing is no error to the command
        const recovery_kind kind = detail::recovery_of(found.flags);
        if (found.state == uapi::dev_state::live && detail::waits_for_server(kind)) {
            write_back(id);
        }
        commands_.stop_dev(id, deadline_);
    }

    /// Deletes a device, and stops it first where it is not (DEL_DEV). Requests that wait for a
    /// next server fail with EIO.
    ///
    /// Returns: false where the disk is still open or mounted: the id becomes free with the last
    /// close.
    bool del(std::uint32_t id) {
        if (info(id).state != uapi::dev_state::dead) {
            stop(id);
        }
        return commands_.del_dev(id, deadline_);
    }

    /// What `try_stop` has done.
    struct try_stop_result {
        bool stopped = false;
        bool all_openers_counted = false;  ///< false before Linux 7.0: only exclusive ones were
    };

    /// Stops a device and deletes it, unless somebody uses its disk (TRY_STOP_DEV, Linux 7.0): who
    /// has it open, directly or by a mount. Before 7.0 only users that have it for themselves are
    /// noticed: mounted file systems, device mapper, md, swap.
    ///
    /// Throws: ENODEV where there is no disk.
    try_stop_result try_stop(std::uint32_t id) {
        const bool counts = (commands_.get_features() & uapi::feature::safe_stop_dev) != 0;
        if (!counts && detail::used_exclusively(id)) {
            return {};
        }
        if (counts && !commands_.try_stop_dev(id, deadline_)) {
            return {.all_openers_counted = true};
        }
        (void)del(id);
        return {.stopped = true, .all_openers_counted = counts};
    }

    /// Takes a device away from its server, which lives on and gets no request any more
    /// (QUIESCE_DEV, Linux 6.16); the disk waits for a next one (`device::recover`). For a device
    /// that was added with `options::recovery`. That its server is gone already is no error.
    ///
    /// Range: `limit` at least 1 ms.
    /// Throws: ETIMEDOUT where a queue of it had no idle tag for `limit`.
    void quiesce(std::uint32_t id, std::chrono::milliseconds limit) {
        if (limit.count() <= 0) {
            fail(EINVAL, "QUIESCE_DEV", id, "the time limit is not positive",
                 "choose at least 1 ms");
        }
        if (!commands_.quiesce_dev(id, limit)) {
            fail(ETIMEDOUT, "QUIESCE_DEV", id, "its server owns all tags of a queue",
                 "see whether its backend answers, or allow more time");
        }
    }

    /// Changes the size of a disk while clients use it (UPDATE_SIZE, Linux 6.16). The server is not
    /// asked: who shrinks a disk loses what is behind its new end, and who lets it grow needs a
    /// backend that has so much.
    ///
    /// Range: `bytes` a positive multiple of the logical block size, below 2^63.
    void resize(std::uint32_t id, std::uint64_t bytes) { commands_.update_size(id, bytes); }

private:
    // The driver fails what its own stop would write back to a disk of that kind.
    void write_back(std::uint32_t id) {
        const detail::linux_kernel running;
        const detail::disk_write_back all{running, id};
        if (!all.ended(detail::from_now(running, deadline_))) {
            fail(ETIMEDOUT, "writing back what clients left in the page cache", id,
                 "the server does not answer, or there is much to write",
                 "see where its backend is, allow more time, or end the server");
        }
    }

    /// Ids in ascending order, from sysfs.
    [[nodiscard]] static std::vector<std::uint32_t> ids() {
        std::vector<std::uint32_t> all;
        const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir("/sys/class/ublk-char"),
                                                            ::closedir};
        while (const dirent* const entry = directory ? ::readdir(directory.get()) : nullptr) {
            constexpr std::string_view prefix = "ublkc";
            const std::string_view name = entry->d_name;
            std::uint32_t id = 0;
            if (name.starts_with(prefix) &&
                std::from_chars(name.data() + prefix.size(), name.data() + name.size(), id).ec ==
                    std::errc{}) {
                all.push_back(id);
            }
        }
        std::sort(all.begin(), all.end());
        return all;
    }

    time_limit deadline_;
    detail::control_commands<detail::linux_kernel> commands_;
};

}  // namespace ublk::inline v0
