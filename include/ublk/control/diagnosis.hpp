// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/uapi.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>

namespace ublk::inline v0::detail {

/// Why a control command failed, and what to do about it.
struct diagnosis {
    std::string_view cause;
    std::string_view remedy;
};

[[nodiscard]] constexpr std::string_view command_name(std::uint32_t op) noexcept {
    switch (op) {
    case uapi::ctrl::get_queue_affinity:
        return "GET_QUEUE_AFFINITY";
    case uapi::ctrl::get_dev_info:
        return "GET_DEV_INFO";
    case uapi::ctrl::get_dev_info2:
        return "GET_DEV_INFO2";
    case uapi::ctrl::add_dev:
        return "ADD_DEV";
    case uapi::ctrl::del_dev:
        return "DEL_DEV";
    case uapi::ctrl::del_dev_async:
        return "DEL_DEV_ASYNC";
    case uapi::ctrl::start_dev:
        return "START_DEV";
    case uapi::ctrl::stop_dev:
        return "STOP_DEV";
    case uapi::ctrl::set_params:
        return "SET_PARAMS";
    case uapi::ctrl::get_params:
        return "GET_PARAMS";
    case uapi::ctrl::get_features:
        return "GET_FEATURES";
    case uapi::ctrl::start_user_recovery:
        return "START_USER_RECOVERY";
    case uapi::ctrl::end_user_recovery:
        return "END_USER_RECOVERY";
    case uapi::ctrl::quiesce_dev:
        return "QUIESCE_DEV";
    case uapi::ctrl::update_size:
        return "UPDATE_SIZE";
    case uapi::ctrl::try_stop_dev:
        return "TRY_STOP_DEV";
    case uapi::ctrl::reg_buf:
        return "REG_BUF";
    case uapi::ctrl::unreg_buf:
        return "UNREG_BUF";
    default:
        return "a control command";
    }
}

namespace diagnoses {

struct row {
    std::uint32_t op;  // 0: any command
    int code;
    diagnosis words;
};
inline constexpr std::array rows{
    row{uapi::ctrl::add_dev,
        EEXIST,
        {"a device with this id exists: a crashed server left it, or a client "
         "still has its removed disk open",
         "choose another id or none, delete that device, or close its disk"}},
    row{uapi::ctrl::add_dev,
        EACCES,
        {"the limit on ublk devices is reached; newer drivers count those of unprivileged "
         "users only",
         "raise it: echo 1024 > /sys/module/ublk_drv/parameters/ublks_max"}},
    row{uapi::ctrl::add_dev,
        EPERM,
        {"adding a device takes CAP_SYS_ADMIN", "run as root or grant CAP_SYS_ADMIN"}},
    row{uapi::ctrl::add_dev,
        EINVAL,
        {"the driver refuses this id, depth, number of queues or mix of features",
         "check the options: id below 1048576, depth and queues from 1 to 4096"}},
    row{uapi::ctrl::add_dev,
        ENOSPC,
        {"no device id is free", "delete devices that are not in use"}},
    row{uapi::ctrl::add_dev,
        ENOMEM,
        {"the kernel has no memory for this many queues and tags",
         "ask for less depth or fewer queues"}},
    row{uapi::ctrl::add_dev,
        ETIMEDOUT,
        {"another ublk command holds the driver's global lock, for example a DEL_DEV that "
         "waits "
         "for a stuck server; kernels 6.18.4 and 6.18.5 crash in this command",
         "look for blocked tasks in dmesg, end the stuck server, or update the kernel"}},
    row{uapi::ctrl::set_params,
        EINVAL,
        {"the driver refuses a block size, a limit or a mix of attributes",
         "compare the backend's attributes with what ublk::validate documents"}},
    row{uapi::ctrl::set_params,
        EACCES,
        {"the device is already started", "set parameters before it starts"}},
    row{uapi::ctrl::start_dev,
        EINVAL,
        {"the process that opened /dev/ublkcN is not the one that starts the device, or its "
         "parameters are not set",
         "do not fork between the two, and send SET_PARAMS first"}},
    row{uapi::ctrl::start_dev,
        EEXIST,
        {"the device is live, or somebody still holds its last disk open",
         "close what uses the old /dev/ublkbN"}},
    row{uapi::ctrl::start_dev, EBUSY, {"the device is being stopped", "start it again after that"}},
    row{uapi::ctrl::add_dev,
        ETIMEDOUT,
        {"the driver did not answer in time",
         "look for blocked tasks in dmesg, and with `ls /dev/ublkc*` for a device that was added "
         "late"}},
    row{uapi::ctrl::start_dev,
        ETIMEDOUT,
        {"reading the partition table takes too long, or a queue did not get ready",
         "see whether the backend answers reads, or allow more time "
         "(options::command_deadline)"}},
    row{uapi::ctrl::stop_dev,
        ETIMEDOUT,
        {"writing back dirty pages takes long, or the backend does not answer",
         "allow more time (options::stop_deadline), or look at where the backend is"}},
    row{uapi::ctrl::del_dev,
        ETIMEDOUT,
        {"something still refers to the device: a client that has its disk open or mounted, or "
         "a "
         "descriptor, a mapping or a ring of /dev/ublkcN",
         "end the process that holds it"}},
    row{uapi::ctrl::get_features,
        EOPNOTSUPP,
        {"the kernel is older than 6.5", "use Linux 6.8 or newer"}},
    row{uapi::ctrl::get_features,
        EINVAL,
        {"the kernel is older than 6.5", "use Linux 6.8 or newer"}},
    row{uapi::ctrl::start_user_recovery,
        EINVAL,
        {"the device was added without USER_RECOVERY, or a recovery of it ended before one queue "
         "was ready (before Linux 6.16)",
         "delete the device, and add it again with options::recovery"}},
    row{uapi::ctrl::start_user_recovery,
        EBUSY,
        {"somebody has /dev/ublkcN open, or the driver has not noticed that the last server is "
         "gone",
         "end that process, or wait"}},
    row{uapi::ctrl::end_user_recovery,
        EINVAL,
        {"the process that opened /dev/ublkcN is not the one that recovers the device",
         "do not fork between the two"}},
    row{uapi::ctrl::end_user_recovery,
        EBUSY,
        {"the device was stopped, or served by another process, meanwhile",
         "look at its state, and start again"}},
    row{uapi::ctrl::end_user_recovery,
        ETIMEDOUT,
        {"a queue did not get ready",
         "look for blocked tasks in dmesg, or allow more time (options::command_deadline)"}},
    row{uapi::ctrl::quiesce_dev,
        EOPNOTSUPP,
        {"the kernel is older than 6.16, or the device was added without recovery",
         "use Linux 6.16 or newer, and options::recovery"}},
    row{uapi::ctrl::quiesce_dev,
        ENODEV,
        {"there is no such device, or it has no disk", "start the device first"}},
    row{uapi::ctrl::update_size,
        EOPNOTSUPP,
        {"the kernel is older than 6.16", "use Linux 6.16 or newer"}},
    row{uapi::ctrl::update_size,
        ENODEV,
        {"there is no such device, or it has no disk", "start the device first"}},
    row{uapi::ctrl::try_stop_dev,
        EOPNOTSUPP,
        {"the kernel is older than 7.0", "use Linux 7.0 or newer"}},
    row{uapi::ctrl::try_stop_dev,
        ENODEV,
        {"there is no such device, or it has no disk", "start the device first"}},
    row{uapi::ctrl::reg_buf,
        EOPNOTSUPP,
        {"the kernel is older than 7.1, or the device was added without SHMEM_ZC",
         "use Linux 7.1 or newer"}},
    row{uapi::ctrl::reg_buf,
        EEXIST,
        {"a part of this memory is registered already", "unregister it first"}},
    row{uapi::ctrl::reg_buf,
        ENOMEM,
        {"the kernel may not lock so much memory for this process", "raise `ulimit -l`"}},
    row{uapi::ctrl::unreg_buf,
        ENOENT,
        {"nothing is registered with this index", "check the index"}},
    row{0, ENODEV, {"there is no such device", "check the id with `ls /dev/ublkc*`"}},
    row{0,
        EBADF,
        {"the descriptor of /dev/ublk-control or of its io_uring is closed",
         "see where the program closes descriptors that it did not open"}},
    row{0, EPERM, {"this user may not control the device", "run as root"}},
    row{0, EOPNOTSUPP, {"the running kernel lacks this command", "use a newer kernel"}},
    row{0, ETIMEDOUT, {"the driver did not answer in time", "look for blocked tasks in dmesg"}},
    row{0,
        ECANCELED,
        {"the kernel could not start a thread to run the command in",
         "raise `ulimit -u` or the limit on processes of this user's cgroup"}},
};

}  // namespace diagnoses

/// From the driver's source (7.3, with what differs back to 6.8): what each errno of each command
/// stands for.
[[nodiscard]] constexpr diagnosis diagnose(std::uint32_t op, int code) noexcept {
    for (const diagnoses::row& r : diagnoses::rows) {
        if ((r.op == op || r.op == 0) && r.code == code) {
            return r.words;
        }
    }
    return {};
}

}  // namespace ublk::inline v0::detail
