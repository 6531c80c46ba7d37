// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/data/queue_progress.hpp>
#include <ublk/device/granted_info.hpp>
#include <ublk/kernel/disk_write_back.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/kernel/node_cache.hpp>
#include <ublk/kernel/pause.hpp>
#include <ublk/options.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace ublk::inline v0::detail {

template <class Kernel>
class control_commands;

template <class Kernel>
class queue_threads;

/// How a device that is being served comes to its end: its disk is removed, then its threads leave.
template <class Kernel>
class device_shutdown {
public:
    /// All outlive it.
    device_shutdown(const Kernel& running, const options& requested,
                    control_commands<Kernel>& commands, queue_threads<Kernel>& threads,
                    const device_info& info) noexcept
        : kernel_{running}, requested_{requested}, control_{commands}, threads_{threads},
          id_{info.id}, write_back_first_{waits_for_server(info.recovery)} {}

    /// STOP first and join then: the driver writes dirty pages back through our threads. Throws
    /// `error` where that does not end, after the disk was removed by force.
    void stop() {
        const typename node_cache_of<Kernel>::type cache{id_};
        threads_.report();
        const bool written_back = !write_back_first_ || threads_.gone(deadline{}) || write_back();
        const control_ticket ticket = control_.begin_stop(id_);
        const auto stopped = [&](deadline until) {
            return control_.finish_stop(ticket, id_, until);
        };
        if (written_back && finish_while_answered(stopped)) {
            (void)threads_.gone(from_now(kernel_, requested_.command_deadline));
        } else {
            stop_by_force(ticket, cache.dirty_bytes());
        }
    }

    /// Takes the tags back from the driver, so that the threads leave by themselves. Without that
    /// their rings would close upon commands in flight, which kernels have had trouble with (6.12
    /// warns and has crashed there).
    void settle() noexcept {
        const bool stopped = stop_quietly();
        threads_.start_resolved();
        if (stopped) {
            (void)threads_.gone(from_now(kernel_, patience(requested_)));
        }
    }

    /// Nothing to do where they left by themselves, or will not be waited for a second time. Throws
    /// `error` where one does not come.
    void end_threads() {
        if (threads_.abandoned()) {
            return;
        }
        threads_.request_exit();
        if (!threads_.gone(from_now(kernel_, requested_.command_deadline))) {
            threads_.abandon();
            fail(ETIMEDOUT, "ending the queue threads", id_, "a backend function has not returned",
                 "end the process, then delete the device");
        }
    }

    /// Waits until the driver has noticed that nobody serves the device any more.
    void await_notice() {
        constexpr std::chrono::milliseconds between_looks{1};
        const deadline until = from_now(kernel_, requested_.recovery_deadline);
        while (control_.get_dev_info(id_).state == uapi::dev_state::live) {
            if (kernel_.now() >= until) {
                fail(ETIMEDOUT, "leaving the device to its next server", id_,
                     "the driver has not noticed that its threads have ended",
                     "end the process, then recover the device");
            }
            pause(kernel_, between_looks);
        }
    }

    /// For what hardly ever takes time.
    [[nodiscard]] static time_limit patience(const options& requested) {
        return std::min<time_limit>(std::chrono::seconds{1}, requested.command_deadline);
    }

private:
    // The driver fails what STOP_DEV would write back to a disk whose requests may wait for a
    // server. What clients write from here to there is lost to them, as it is a moment later.
    [[nodiscard]] bool write_back() {
        const typename disk_write_back_of<Kernel>::type all{kernel_, id_};
        return finish_while_answered([&](deadline until) {
            return all.ended(until) || threads_.gone(deadline{});  // then nobody answers any more
        });
    }

    // A slow backend that answers is not given up on, however much there is to write back.
    template <class Ended>
    [[nodiscard]] bool finish_while_answered(Ended ended) {
        constexpr std::chrono::milliseconds between_looks{100};
        std::uint64_t before = answers();
        deadline until = from_now(kernel_, requested_.stop_deadline);
        while (true) {
            const deadline look = std::min(until, from_now(kernel_, between_looks));
            if (ended(look)) {
                return true;
            }
            if (const std::uint64_t now = answers(); now != before) {
                before = now;
                until = from_now(kernel_, requested_.stop_deadline);
            } else if (look == until) {
                return false;
            }
        }
    }

    [[nodiscard]] std::uint64_t answers() const noexcept {
        return sum(threads_.progress(), &queue_progress::answers);
    }

    [[noreturn]] void stop_by_force(control_ticket ticket,
                                    const std::optional<std::uint64_t>& dirty) {
        std::string cause = "the backend has not answered for options::stop_deadline";
        std::string remedy = "the disk was removed by force";
        try {
            threads_.refuse();
            const bool ended = control_.finish_stop(ticket, id_, requested_.command_deadline);
            (void)threads_.gone(
                from_now(kernel_, ended ? requested_.command_deadline : patience(requested_)));
            end_threads();
            if (!ended) {
                (void)control_.finish_stop(ticket, id_, requested_.command_deadline);
            }
        } catch (const error& stuck) {
            cause += ", and " + std::string{stuck.cause()};
            remedy = stuck.remedy();
        }
        fail(ETIMEDOUT, "STOP_DEV", id_, cause, remedy + "; " + what_is_lost(dirty));
    }

    [[nodiscard]] std::string what_is_lost(const std::optional<std::uint64_t>& dirty) const {
        const std::string node = "/dev/ublkb" + std::to_string(id_);
        return "writes of " +
               std::to_string(sum(threads_.progress(), &queue_progress::failed_bytes)) +
               " bytes were failed with EIO; " +
               (dirty ? std::to_string(*dirty) + " bytes in the page cache of " + node +
                            " had not been written back until then"
                      : "how much was dirty in the page cache of " + node + " is not known") +
               ", nor what a file system mounted on it had in memory";
    }

    [[nodiscard]] bool stop_quietly() noexcept {
        try {
            threads_.refuse();
            return control_.finish_stop(control_.begin_stop(id_), id_, patience(requested_));
        } catch (...) {
            return false;
        }
    }

    const Kernel& kernel_;
    const options& requested_;
    control_commands<Kernel>& control_;
    queue_threads<Kernel>& threads_;
    std::uint32_t id_;
    bool write_back_first_;
};

}  // namespace ublk::inline v0::detail
