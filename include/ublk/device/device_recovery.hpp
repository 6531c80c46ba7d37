// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/device/backend_fit.hpp>
#include <ublk/device/device_identity.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/granted_info.hpp>
#include <ublk/device/path_choice.hpp>
#include <ublk/device/thread_limits.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/pause.hpp>
#include <ublk/options.hpp>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace ublk::inline v0::detail {

template <class Kernel>
class control_commands;

/// A device whose server is gone: what the driver has of it, and whether a backend with policies
/// can serve it. Nothing is changed before `claim`.
template <class Kernel>
class device_recovery {
public:
    /// Waits until the driver has noticed that the server is gone. Throws `error` where that does
    /// not come, and where the device cannot be recovered, or not by this backend. All outlive it.
    device_recovery(const Kernel& running, const options& requested,
                    control_commands<Kernel>& commands, const device_ops<Kernel>& ops,
                    const disk_attributes& disk, std::uint64_t known, std::uint32_t id)
        : kernel_{running}, requested_{requested}, control_{commands}, ops_{ops}, known_{known},
          until_{from_now(running, requested.recovery_deadline)}, found_{await_abandoned(id)} {
        check_backend(disk);
    }

    [[nodiscard]] device_identity identity() const noexcept {
        return device_identity{found_.server_flags};
    }

    /// The device as it is, served by the best data path that it was made for and that was not
    /// refused yet. Throws `error` where there is none.
    [[nodiscard]] device_info info(const refused_setups& refused, unsigned threads) const {
        const bool apart = ops_.shares_tags && (found_.flags & uapi::feature::per_io_daemon) != 0;
        const thread_load load =
            load_of(ops_.threads({found_.nr_hw_queues, found_.queue_depth, threads, apart}),
                    found_.queue_depth);
        check_load(load, "START_USER_RECOVERY", found_.dev_id);
        const path_choice choice = choose_path(ops_.offers, requested_.path, facts(load, refused));
        device_info info = granted_info(found_, known_, choice.candidates[0],
                                        "of those for which the device was made, " + choice.why());
        info.per_io_daemon = apart;
        info.recovered = true;
        return info;
    }

    /// START_USER_RECOVERY, as soon as nobody refers to the old server's /dev/ublkcN any more.
    void claim() {
        if (!can_be_repeated()) {
            await_old_driver();
        }
        while (!control_.start_user_recovery(found_.dev_id)) {
            wait_or_fail("somebody still has /dev/ublkc" + std::to_string(found_.dev_id) +
                         " open: the server that ends, a child of it, or a probe");
        }
    }

    /// Before Linux 6.16 the driver does not forget what a server fetched that ended before all its
    /// queues were ready, and crashes when it is asked for another recovery (ublk_queue_reinit).
    [[nodiscard]] bool can_be_repeated() const noexcept {
        return (known_ & uapi::feature::per_io_daemon) != 0;
    }

private:
    static constexpr std::chrono::milliseconds between_looks{5};

    [[noreturn]] static void refuse(int code, std::uint32_t id, const std::string& cause,
                                    const std::string& remedy) {
        fail(code, "recovering", id, cause, remedy);
    }

    // Before Linux 6.16 a work item of the driver cancels what the last server had fetched, one for
    // each of its queues. One that runs late cancels what the next server has fetched. Once nobody
    // has /dev/ublkcN open all are under way.
    void await_old_driver() {
        constexpr std::chrono::milliseconds under_way{50};
        (void)kernel_.open_channel(id(), until_);
        pause(kernel_, under_way);
    }

    void wait_or_fail(const std::string& why) {
        if (kernel_.now() >= until_) {
            refuse(ETIMEDOUT, id(), why, "see that it ends, or raise options::recovery_deadline");
        }
        pause(kernel_, between_looks);
    }

    [[nodiscard]] std::uint32_t id() const noexcept { return id_; }

    [[nodiscard]] uapi::dev_info await_abandoned(std::uint32_t id) {
        id_ = id;
        while (true) {
            const uapi::dev_info found = control_.get_dev_info(id);
            check_identity(found);
            if ((found.flags & uapi::feature::user_recovery) == 0) {
                refuse(EOPNOTSUPP, id, "it was added without recovery",
                       "delete it, and add it again with options::recovery");
            }
            switch (found.state) {
            case uapi::dev_state::quiesced:
            case uapi::dev_state::fail_io:
                return found;
            case uapi::dev_state::live:
                check_server(found);
                wait_or_fail(found.pid > 0
                                 ? "its server, process " + std::to_string(found.pid) +
                                       ", has ended, and the driver has not noticed"
                                 : "it is live, and its server is about to end or in another "
                                   "process namespace");
                break;
            default:
                refuse(ENODEV, id, "it was stopped, and its disk is gone",
                       "delete it, and add it again");
            }
        }
    }

    void check_server(const uapi::dev_info& live) const {
        if (live.pid > 0 && kernel_.process_alive(live.pid)) {
            refuse(EBUSY, live.dev_id,
                   "it is live, and process " + std::to_string(live.pid) + " serves it",
                   "end that process first");
        }
    }

    static void check_identity(const uapi::dev_info& found) {
        if (!device_identity{found.server_flags}.ours()) {
            refuse(EPERM, found.dev_id, "a server that is not of this library has added it",
                   "recover it with that program, or delete it");
        }
    }

    void check_backend(const disk_attributes& disk) {
        if (recovery_of(found_.flags) == recovery_kind::reissue && !disk.idempotent) {
            refuse(EINVAL, id(),
                   "the driver sends requests again that the last server may have served, and the "
                   "backend does not say that it is idempotent",
                   "give it `static constexpr bool idempotent = true;` where that is so");
        }
        const std::string reason = misfit(control_.get_params(id()), disk, found_.max_io_buf_bytes);
        if (!reason.empty()) {
            refuse(EINVAL, id(), reason, "recover it with the backend that it was started with");
        }
        if ((found_.flags & uapi::feature::batch_io) != 0 && !ops_.batch_io) {
            refuse(EINVAL, id(), "it was added with the driver's batches",
                   "take the batch policy ublk::batch_io");
        }
    }

    [[nodiscard]] path_facts facts(const thread_load& load, const refused_setups& refused) const {
        const std::uint64_t buffers =
            std::uint64_t{found_.nr_hw_queues} * found_.queue_depth * found_.max_io_buf_bytes;
        return {.known = known_,
                .tags_a_thread = static_cast<unsigned>(load.tags),
                .refused = refused.paths,
                .batch_io = (found_.flags & uapi::feature::batch_io) != 0,
                .tag_buffers = buffers,
                .tag_buffers_max = ops_.on_thread_set ? 0 : requested_.tag_buffers_max,
                .made_for = found_.flags & path_features};
    }

    const Kernel& kernel_;
    const options& requested_;
    control_commands<Kernel>& control_;
    const device_ops<Kernel>& ops_;
    std::uint64_t known_;
    deadline until_;
    std::uint32_t id_ = 0;
    uapi::dev_info found_;
};

}  // namespace ublk::inline v0::detail
