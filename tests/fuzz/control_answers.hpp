// SPDX-License-Identifier: MIT
#pragma once

// What the driver may answer to control commands, after its documentation rather than after the
// simulator.

#include "bytes.hpp"

#include <ublk/features.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/sim/machine.hpp>
#include <ublk/uapi.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <set>
#include <string>

namespace ublk_fuzz {

namespace uapi = ublk::uapi;

/// The devices that ADD_DEV granted, and the answers that must agree with that.
class register_of_devices {
public:
    struct entry {
        uapi::dev_info info;
        bool deleting = false;  ///< DEL_DEV was sent, whatever became of it
    };

    explicit register_of_devices(const ublk::sim::conditions& given) : given_{given} {
        for (const ublk::feature_info& each : ublk::feature_infos) {
            known_ |= each.since <= given.version ? each.flag : 0;
        }
    }

    [[nodiscard]] const std::map<std::uint32_t, entry>& all() const noexcept { return all_; }
    [[nodiscard]] const entry* find(std::uint32_t id) const {
        const auto found = all_.find(id);
        return found == all_.end() ? nullptr : &found->second;
    }
    [[nodiscard]] const std::set<std::uint32_t>& ids_asked() const noexcept { return ids_asked_; }
    [[nodiscard]] bool unprivileged(std::uint32_t id) const {
        const entry* const e = find(id);
        return e != nullptr && (e->info.flags & uapi::feature::unprivileged_dev) != 0;
    }

    void sent(const ublk::detail::control_command& command) {
        const std::uint32_t nr = uapi::legacy(command.op);
        const auto found = all_.find(command.header.dev_id);
        ids_asked_.insert(command.header.dev_id);
        if (found != all_.end() && (nr == uapi::legacy(uapi::ctrl::del_dev) ||
                                    nr == uapi::legacy(uapi::ctrl::del_dev_async))) {
            found->second.deleting = true;
        }
    }

    /// `alone`: no other command was on its way meanwhile.
    void answered(const ublk::detail::control_command& requested,
                  const ublk::detail::control_command& got, int code, bool sender_is_dead,
                  bool alone) {
        if (code == -EOWNERDEAD) {
            expect(sender_is_dead, "a live process is told that it is dead");
            return;
        }
        known_code(code);
        if (code != 0) {
            return;
        }
        const std::uint32_t nr = uapi::legacy(requested.op);
        if (requested.op == uapi::ctrl::get_features) {
            expect(read<std::uint64_t>(got, 0) == known_, "GET_FEATURES has other features");
        } else if (nr == uapi::legacy(uapi::ctrl::add_dev)) {
            added(read<uapi::dev_info>(requested, 0), read<uapi::dev_info>(got, 0));
        } else if (alone && (nr == uapi::legacy(uapi::ctrl::get_dev_info) ||
                             nr == uapi::legacy(uapi::ctrl::get_dev_info2))) {
            const bool path = nr == uapi::legacy(uapi::ctrl::get_dev_info2) ||
                              unprivileged(requested.header.dev_id);
            told(requested.header.dev_id,
                 read<uapi::dev_info>(got, path ? requested.header.dev_path_len : 0u));
        }
    }

private:
    template <class T>
    [[nodiscard]] static T read(const ublk::detail::control_command& from, std::size_t offset) {
        T value{};
        std::memcpy(static_cast<void*>(&value), from.payload + offset, sizeof value);
        return value;
    }

    static void known_code(int code) {
        for (const int each : {0, EINVAL, EPERM, ENODEV, EOPNOTSUPP, EEXIST, EBUSY, EACCES, ENOENT,
                               EINTR, ECANCELED}) {
            if (code == -each) {
                return;
            }
        }
        wrong("a control command is answered with " + std::to_string(code));
    }

    [[nodiscard]] bool since(unsigned major, unsigned minor) const noexcept {
        return !(given_.version < ublk::kernel_version{major, minor});
    }

    void added(const uapi::dev_info& requested, const uapi::dev_info& got) {
        check_sizes(requested, got);
        check_flags(requested.flags, got.flags);
        const auto before = all_.find(got.dev_id);
        expect(before == all_.end() || before->second.deleting, "an id is given out twice");
        expect(requested.dev_id == uapi::any_dev_id || requested.dev_id == got.dev_id,
               "ADD_DEV gives another id than the one asked for");
        expect(got.dev_id < uapi::max_devices, "ADD_DEV gives an id that is too large");
        all_[got.dev_id] = {got};
    }

    void check_sizes(const uapi::dev_info& requested, const uapi::dev_info& got) const {
        const auto page = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
        expect(got.nr_hw_queues == std::min<unsigned>(requested.nr_hw_queues, given_.cpus) &&
                   got.nr_hw_queues != 0,
               "queues are not as many as asked and CPUs");
        expect(got.queue_depth == requested.queue_depth && got.queue_depth != 0 &&
                   got.queue_depth <= uapi::max_queue_depth,
               "the depth is not as asked");
        expect(got.max_io_buf_bytes == requested.max_io_buf_bytes / page * page,
               "the buffer is not rounded down to pages");
        expect(got.state == uapi::dev_state::dead && got.pid <= 0, "a new device is not dead");
        expect(got.server_flags == requested.server_flags, "the server's flags are changed");
        if (since(7, 3) && (got.flags & uapi::feature::io_desc_size) != 0) {
            expect(got.io_desc_size == requested.io_desc_size && got.io_desc_size >= 24 &&
                       got.io_desc_size <= 256 && got.io_desc_size % 8 == 0,
                   "descriptors have a size that they cannot have");
        } else if (since(7, 3)) {
            expect(got.io_desc_size == 24, "descriptors have another size than asked");
        }
    }

    void check_flags(std::uint64_t requested, std::uint64_t got) const {
        using namespace uapi::feature;
        const auto has = [requested](std::uint64_t flag) { return (requested & flag) != 0; };
        std::uint64_t due = requested & known_;
        due &= ~(given_.root ? unprivileged_dev : 0);
        const bool unprivileged = (due & unprivileged_dev) != 0;
        expect(given_.root || unprivileged, "a user without privileges adds a device as root does");
        due &= ~(unprivileged ? user_recovery | user_recovery_reissue : 0);
        due |= ublk::always_on_features & known_;
        due &= ~((due & batch_io) != 0 ? per_io_daemon : 0);
        due &=
            ~((due & (user_copy | support_zero_copy | auto_buf_reg | batch_io)) != 0 ? need_get_data
                                                                                     : 0);
        if (got != due) {
            wrong("flags " + ublk::describe(requested) + " become " + ublk::describe(got) +
                  ", not " + ublk::describe(due));
        }
        if (since(6, 13)) {
            expect(has(user_recovery) || !has(user_recovery_reissue | user_recovery_fail_io),
                   "a way to recover is granted without recovery");
            expect(!has(user_recovery_reissue) || !has(user_recovery_fail_io),
                   "two ways to recover are granted at once");
        }
        expect(!since(6, 16) || !has(quiesce) || has(user_recovery),
               "QUIESCE is granted without recovery");
        expect(!unprivileged ||
                   (got & (since(6, 12) ? user_copy | support_zero_copy | auto_buf_reg : 0)) == 0,
               "an unprivileged device is granted a way around the kernel's copies");
        expect((got & integrity) == 0 || (got & user_copy) != 0,
               "INTEGRITY is granted without USER_COPY");
        expect((got & zoned) == 0 || (given_.zoned && (got & (user_copy | support_zero_copy)) != 0),
               "ZONED is granted though it cannot work");
    }

    void told(std::uint32_t id, const uapi::dev_info& got) const {
        const entry* const e = find(id);
        if (e == nullptr || e->deleting) {
            return;
        }
        const uapi::dev_info& granted = e->info;
        expect(got.dev_id == id && got.nr_hw_queues == granted.nr_hw_queues &&
                   got.queue_depth == granted.queue_depth && got.flags == granted.flags &&
                   got.max_io_buf_bytes == granted.max_io_buf_bytes &&
                   got.io_desc_size == granted.io_desc_size &&
                   got.server_flags == granted.server_flags && got.owner_uid == granted.owner_uid &&
                   got.owner_gid == granted.owner_gid,
               "GET_DEV_INFO says something else than ADD_DEV granted");
        expect(got.state <= uapi::dev_state::fail_io, "a device is in no known state");
    }

    ublk::sim::conditions given_;
    std::uint64_t known_ = 0;
    std::map<std::uint32_t, entry> all_;
    std::set<std::uint32_t> ids_asked_;
};

}  // namespace ublk_fuzz
