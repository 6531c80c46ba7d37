// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control/command_exchange.hpp>
#include <ublk/detail/cpu_set.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ublk::inline v0::detail {

/// The control commands of the driver, one function each. Every one throws `error` when the kernel
/// refuses it or has not answered when the deadline given to the constructor has passed since the
/// call, or when the caller is a child that was forked since; none may be called from a thread that
/// serves requests, since most of them wait for requests to be served.
template <class Kernel>
class control_commands : command_exchange<Kernel> {
    using exchange_type = command_exchange<Kernel>;
    using exchange_type::ask;
    using exchange_type::call;
    using exchange_type::channel_;
    using exchange_type::deadline_;
    using exchange_type::exchange;
    using exchange_type::grace;
    using exchange_type::kernel_;
    using exchange_type::of;
    using exchange_type::owner_;
    using exchange_type::refuse;
    using exchange_type::refuse_unless_gone;
    using exchange_type::unanswered_add_;

public:
    using exchange_type::exchange_type;

    /// GET_FEATURES (kernel 6.5): the feature flags that the driver knows.
    [[nodiscard]] std::uint64_t get_features() {
        control_command command = of(uapi::ctrl::get_features, 0);
        std::uint64_t features = 0;
        ask(command, features, std::nullopt);
        return features;
    }

    /// ADD_DEV: creates /dev/ublkcN. Returns what was granted, which may be fewer queues, other
    /// flags and a smaller buffer than asked.
    [[nodiscard]] uapi::dev_info add_dev(uapi::dev_info requested) {
        control_command command = of(uapi::ctrl::add_dev, requested.dev_id);
        command.header.queue_id = uapi::no_queue_id;
        const bool chosen = requested.dev_id != uapi::any_dev_id;
        ask(command, requested, chosen ? std::optional{requested.dev_id} : std::nullopt);
        return requested;
    }

    /// An ADD_DEV that was given up on may be carried out yet. Waits for that, for `limit` at most,
    /// and deletes what was added then. False where it is still unanswered.
    bool undo_late_add(time_limit limit) {
        if (!unanswered_add_) {
            return true;
        }
        control_command command;
        const int answer = channel_.finish(*unanswered_add_, command, from_now(kernel_, limit));
        if (answer == control_pending) {
            return false;
        }
        unanswered_add_.reset();
        if (answer >= 0) {
            uapi::dev_info added;
            std::memcpy(&added, command.payload, sizeof added);
            del_dev(added.dev_id);
        }
        return true;
    }

    /// GET_DEV_INFO.
    [[nodiscard]] uapi::dev_info get_dev_info(std::uint32_t id) {
        control_command command = of(uapi::ctrl::get_dev_info, id);
        uapi::dev_info info;
        ask(command, info, id);
        return info;
    }

    /// GET_DEV_INFO2 (kernel 6.3): the same for a device that another user may own, which is named
    /// by the path of its /dev/ublkcN as well.
    [[nodiscard]] uapi::dev_info get_dev_info2(std::uint32_t id, std::string_view path) {
        control_command command = of(uapi::ctrl::get_dev_info2, id);
        uapi::dev_info info;
        const std::size_t prefix = (path.size() + 1 + 7) / 8 * 8;
        if (prefix + sizeof info > control_command::payload_max) {
            fail(ENAMETOOLONG, command_name(command.op), id);
        }
        std::memcpy(command.payload, path.data(), path.size());
        command.header.dev_path_len = static_cast<std::uint16_t>(prefix);
        command.header.len = static_cast<std::uint16_t>(prefix + sizeof info);
        (void)call(command, id, deadline_);
        std::memcpy(&info, command.payload + prefix, sizeof info);
        return info;
    }

    /// SET_PARAMS: before START_DEV only.
    void set_params(std::uint32_t id, uapi::params params) {
        control_command command = of(uapi::ctrl::set_params, id);
        ask(command, params, id);
    }

    /// GET_PARAMS. The answer has the bit `param_type::devt`, which SET_PARAMS refuses.
    [[nodiscard]] uapi::params get_params(std::uint32_t id) {
        control_command command = of(uapi::ctrl::get_params, id);
        uapi::params params;
        params.len = sizeof params;
        ask(command, params, id);
        return params;
    }

    /// GET_QUEUE_AFFINITY: the CPUs whose requests that queue carries.
    [[nodiscard]] cpu_set get_queue_affinity(std::uint32_t id, queue_id queue) {
        control_command command = of(uapi::ctrl::get_queue_affinity, id, queue.value());
        cpu_set cpus;
        ask(command, cpus.raw(), id);
        return cpus;
    }

    /// START_DEV: waits until every tag is fetched, then creates /dev/ublkbN.
    void start_dev(std::uint32_t id, int pid) {
        control_command command = of(uapi::ctrl::start_dev, id, static_cast<std::uint64_t>(pid));
        (void)call(command, id, deadline_);
    }

    /// STOP_DEV: removes /dev/ublkbN after writing its dirty pages back through the server, then
    /// aborts every fetched tag. Only begins; `finish_stop` waits, so that a server which does not
    /// answer can be ended meanwhile.
    [[nodiscard]] control_ticket begin_stop(std::uint32_t id) {
        owner_.demand(kernel_, command_name(uapi::ctrl::stop_dev), id);
        return channel_.begin(of(uapi::ctrl::stop_dev, id));
    }

    /// False where STOP_DEV is still at it when `limit` has passed. A device that is gone counts as
    /// stopped.
    [[nodiscard]] bool finish_stop(control_ticket ticket, std::uint32_t id, time_limit limit) {
        return finish_stop(ticket, id, from_now(kernel_, limit));
    }
    [[nodiscard]] bool finish_stop(control_ticket ticket, std::uint32_t id, deadline until) {
        control_command command;
        const int answer = channel_.finish(ticket, command, until);
        if (answer == control_pending) {
            return false;
        }
        refuse_unless_gone(uapi::ctrl::stop_dev, id, answer);
        return true;
    }

    /// STOP_DEV from begin to end.
    void stop_dev(std::uint32_t id, time_limit limit) {
        if (!finish_stop(begin_stop(id), id, limit)) {
            refuse(uapi::ctrl::stop_dev, id, -ETIMEDOUT);
        }
    }

    /// DEL_DEV: waits until nobody refers to the device any more, so close what you hold first. A
    /// device that is gone already counts as deleted.
    void del_dev(std::uint32_t id) {
        if (!remove(uapi::ctrl::del_dev, id, deadline_, grace)) {
            refuse(uapi::ctrl::del_dev, id, -ETIMEDOUT);
        }
    }

    /// The same, but waits no longer than `limit` for those who still refer to the removed device:
    /// clients that have its disk open or mounted. False where there are some; the id becomes free
    /// with the last of them.
    [[nodiscard]] bool del_dev(std::uint32_t id, time_limit limit) {
        return remove(uapi::ctrl::del_dev, id, limit, deadline_);
    }

    /// DEL_DEV_ASYNC (kernel 6.9): the same without the wait; the id becomes free some time later.
    void del_dev_async(std::uint32_t id) {
        if (!remove(uapi::ctrl::del_dev_async, id, deadline_, grace)) {
            refuse(uapi::ctrl::del_dev_async, id, -ETIMEDOUT);
        }
    }

    /// START_USER_RECOVERY (kernel 6.1): asks whether a next server may serve the device. False
    /// where it may not yet: somebody has /dev/ublkcN open, or the driver has not noticed that the
    /// last server is gone.
    [[nodiscard]] bool start_user_recovery(std::uint32_t id) {
        control_command command = of(uapi::ctrl::start_user_recovery, id);
        return accepted(command, id, EBUSY);
    }

    /// END_USER_RECOVERY (kernel 6.1): waits until every tag is fetched, then lets the requests
    /// through that waited for a server.
    void end_user_recovery(std::uint32_t id, int pid) {
        control_command command =
            of(uapi::ctrl::end_user_recovery, id, static_cast<std::uint64_t>(pid));
        (void)call(command, id, deadline_);
    }

    /// QUIESCE_DEV (kernel 6.16, for a device that was added with `uapi::feature::quiesce`): takes
    /// the tags back that its server does not own at the moment, and gives it no request any more.
    /// The device waits for a next server once this one has closed /dev/ublkcN. False where a
    /// queue had no idle tag for `limit` (at least 1 ms): the server gets no request then either.
    [[nodiscard]] bool quiesce_dev(std::uint32_t id, std::chrono::milliseconds limit) {
        control_command command =
            of(uapi::ctrl::quiesce_dev, id, static_cast<std::uint64_t>(limit.count()));
        return accepted(command, id, EBUSY, time_limit{limit + grace});
    }

    /// UPDATE_SIZE (kernel 6.16): changes the size of a started disk. The driver takes any number
    /// of sectors; a size that is no positive multiple of the logical block size is refused here.
    void update_size(std::uint32_t id, std::uint64_t bytes) {
        const std::uint64_t block = std::uint64_t{1} << get_params(id).basic.logical_bs_shift;
        constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
        if (bytes == 0 || bytes > most || bytes % block != 0) {
            fail(EINVAL, command_name(uapi::ctrl::update_size), id,
                 "the size is " + std::to_string(bytes) + " bytes",
                 "choose a positive multiple of the logical block size, " + std::to_string(block) +
                     ", below 2^63");
        }
        control_command command = of(uapi::ctrl::update_size, id, bytes_to_sectors(bytes));
        (void)call(command, id, deadline_);
    }

    /// TRY_STOP_DEV (kernel 7.0): STOP_DEV, unless somebody has the disk open. False where somebody
    /// has. Once it has stopped a device, nobody can open a disk of it again, also after another
    /// START_DEV: delete the device.
    [[nodiscard]] bool try_stop_dev(std::uint32_t id, time_limit limit) {
        control_command command = of(uapi::ctrl::try_stop_dev, id);
        return accepted(command, id, EBUSY, limit);
    }

    /// REG_BUF (kernel 7.1, for a device that was added with `uapi::feature::shmem_zc`): tells the
    /// driver of memory that clients share with the server, from this process: whole pages, 4 GiB
    /// at most. Requests that lie in it come with its index and an offset. Returns the index.
    [[nodiscard]] std::uint16_t register_memory(std::uint32_t id, std::span<std::byte> memory,
                                                bool read_only) {
        constexpr std::uint64_t most = std::uint64_t{4} << 30;
        const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
        const std::size_t page = kernel_.page_size();
        if (memory.empty() || memory.size() > most || (address | memory.size()) % page != 0) {
            fail(EINVAL, command_name(uapi::ctrl::reg_buf), id, "the memory is not of whole pages",
                 "align its address and its size to pages, up to 4 GiB");
        }
        uapi::shmem_buf_reg requested;
        requested.addr = address;
        requested.len = memory.size();
        requested.flags = read_only ? uapi::shmem_buf_read_only : 0;
        control_command command = of(uapi::ctrl::reg_buf, id);
        return static_cast<std::uint16_t>(ask(command, requested, id));
    }

    /// UNREG_BUF (kernel 7.1). Waits until no request is in flight.
    void unregister_memory(std::uint32_t id, std::uint16_t index) {
        control_command command = of(uapi::ctrl::unreg_buf, id, index);
        (void)call(command, id, deadline_);
    }

private:
    /// Whether the driver does it; false where it answers with `refusal`.
    [[nodiscard]] bool accepted(control_command& command, std::uint32_t id, int refusal) {
        return accepted(command, id, refusal, deadline_);
    }
    [[nodiscard]] bool accepted(control_command& command, std::uint32_t id, int refusal,
                                time_limit limit) {
        const int answer = exchange(command, limit, grace);
        if (answer < 0 && answer != -refusal) {
            refuse(command.op, id, answer == control_pending ? -ETIMEDOUT : answer);
        }
        return answer >= 0;
    }

    /// False where it was interrupted: only its last step, the wait for the id, can be.
    [[nodiscard]] bool remove(std::uint32_t op, std::uint32_t id, time_limit limit,
                              time_limit afterwards) {
        control_command command = of(op, id);
        const int answer = exchange(command, limit, afterwards);
        if (answer == control_pending) {
            return false;
        }
        refuse_unless_gone(op, id, answer);
        return true;
    }
};

}  // namespace ublk::inline v0::detail
