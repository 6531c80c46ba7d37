// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control/control_commands.hpp>
#include <ublk/device/device_adder.hpp>
#include <ublk/device/device_identity.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/device_recovery.hpp>
#include <ublk/device/device_shutdown.hpp>
#include <ublk/device/queue_threads.hpp>
#include <ublk/device/setup_maker.hpp>
#include <ublk/device/start_events.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/options.hpp>

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0::detail {

/// One life of a device, from ADD_DEV to DEL_DEV: the control commands in their order, and what to
/// undo when one of them fails.
template <class Kernel>
class device_lifecycle {
public:
    /// Opens the control device. Throws `error`. All outlive it.
    device_lifecycle(const Kernel& running, const options& requested, const thread_set_handle& set)
        : kernel_{running}, requested_{requested}, set_{set}, control_{running,
                                                                       requested.command_deadline} {
    }

    device_lifecycle(const device_lifecycle&) = delete;
    device_lifecycle& operator=(const device_lifecycle&) = delete;
    ~device_lifecycle() {
        if (threads_) {
            threads_->join();
        }
    }

    /// Adds, configures and starts the device; a second time, in another way, where the kernel
    /// refuses the first at run time. Throws `error`; `give_up` then cleans up.
    void open(const device_ops<Kernel>& ops, const disk_attributes& disk) {
        check_policy_options(requested_, ops);
        const std::uint64_t known = control_.get_features();
        for (refused_setups refused;;) {
            try {
                prepare(ops, disk, known, refused);
                break;
            } catch (const setup_refused& refusal) {
                refused.add(refusal, info_.path);
                if (!requested_.fall_back || !adder(ops, disk, refused).may_add(known)) {
                    throw;
                }
            }
            retract();
        }
        info_.ring_flags = threads_->ring_flags();
        tell_fallbacks();
        resolve_start([this] { control_.start_dev(info_.id, kernel_.process_id()); });
    }

    /// Serves a device whose server is gone. Throws `error`; `give_up` then leaves it to the next
    /// one.
    void recover(const device_ops<Kernel>& ops, const disk_attributes& disk, std::uint32_t id) {
        check_policy_options(requested_, ops);
        const std::uint64_t known = control_.get_features();
        device_recovery<Kernel> found{kernel_, requested_, control_, ops, disk, known, id};
        identity_ = found.identity();
        for (refused_setups refused;;) {
            info_ = found.info(refused, threads_to_share());
            events_.path();
            if (ops.batch_io && !info_.batch_io) {
                info_.fallbacks.push_back(without_batches(requested_, info_.id, refused));
            }
            found.claim();
            try {
                make_threads(ops, disk.ring_files);
                start_threads();
                break;
            } catch (const setup_refused& refusal) {
                refused.add(refusal, info_.path);
                const bool again = requested_.fall_back && found.can_be_repeated();
                if (!again || refusal.refused() != setup_refused::kind::path) {
                    throw;
                }
            }
            release_threads();
        }
        info_.ring_flags = threads_->ring_flags();
        tell_fallbacks();
        resolve_start([this] { control_.end_user_recovery(info_.id, kernel_.process_id()); });
        added_ = true;
    }

    /// Stops, ends and deletes, each even if the one before failed; then throws what failed first.
    void close() {
        std::exception_ptr first;
        const auto attempt = [&first](auto&& step) {
            try {
                step();
            } catch (...) {
                first = first ? first : std::current_exception();
            }
        };
        attempt([this] { stop_serving(); });
        attempt([this] { end().end_threads(); });
        attempt([this] { delete_device(); });
        if (first) {
            std::rethrow_exception(first);
        }
    }

    /// Whether the disk is there and has a next server to wait for, although this one has ended.
    [[nodiscard]] bool outlives_server() {
        const bool ended = info_.recovery != recovery_kind::none && threads_->gone(deadline{});
        const auto found = ended ? find_own(kernel_, control_, info_.id, identity_) : std::nullopt;
        return found && found->state != uapi::dev_state::dead;
    }

    /// Leaves it to that one. Throws `error` where the driver does not notice.
    void leave() {
        end().end_threads();
        threads_->join();
        added_ = false;
        end().await_notice();
    }

    /// Nothing of a start that failed stays, and what goes wrong here must not hide why it failed.
    void give_up() noexcept {
        try {
            if (threads_ && added_) {
                end().settle();
            }
            if (threads_) {
                threads_->start_resolved();
                end().end_threads();
            }
        } catch (...) {
        }
        try {
            if (threads_) {
                threads_->join();  // with the threads goes /dev/ublkcN, which DEL_DEV waits for
            }
            if (added_) {
                delete_device();
            }
            (void)control_.undo_late_add(device_shutdown<Kernel>::patience(requested_));
        } catch (...) {
        }
    }

    /// What was granted.
    [[nodiscard]] const device_info& info() const noexcept { return info_; }
    [[nodiscard]] const std::shared_ptr<queue_threads<Kernel>>& threads() const noexcept {
        return threads_;
    }

private:
    /// Until the threads have offered every tag.
    void prepare(const device_ops<Kernel>& ops, const disk_attributes& disk, std::uint64_t known,
                 const refused_setups& refused) {
        add(ops, disk, known, refused);
        control_.set_params(info_.id, to_params(disk, info_.max_io_bytes));
        make_threads(ops, disk.ring_files);
        start_threads();
    }

    void start_threads() {
        threads_->start();
        if (!threads_->ready(from_now(kernel_, requested_.command_deadline))) {
            fail(ETIMEDOUT, "starting the queue threads", info_.id,
                 "allocating the tag buffers takes too long",
                 "ask for less depth, fewer queues or a smaller max_io_bytes");
        }
    }

    /// Takes back what was added.
    void retract() {
        end().settle();
        end().end_threads();
        threads_->join();
        delete_device();
        threads_.reset();
        added_ = false;
    }

    /// The device that they were to serve waits for others.
    void release_threads() {
        threads_->start_resolved();
        end().end_threads();
        threads_->join();
        threads_.reset();
    }

    void tell_fallbacks() {
        for (std::string& each : threads_->fallbacks()) {
            info_.fallbacks.push_back(std::move(each));
        }
        events_.fallbacks();
    }

    [[nodiscard]] device_adder<Kernel> adder(const device_ops<Kernel>& ops,
                                             const disk_attributes& disk,
                                             const refused_setups& refused) const {
        return {kernel_, requested_, identity_, ops, disk, threads_to_share(), refused};
    }

    void add(const device_ops<Kernel>& ops, const disk_attributes& disk, std::uint64_t known,
             const refused_setups& refused) {
        identity_ = device_identity::unique(kernel_);
        info_ = adder(ops, disk, refused).add(control_, known, [this](std::uint32_t id) {
            info_.id = id;
            added_ = true;
        });
        events_.path();
        if (ops.batch_io && !info_.batch_io) {
            info_.fallbacks.push_back(without_batches(requested_, info_.id, refused));
        }
        events_.shape(std::min(kernel_.online_cpus(), uapi::max_nr_queues), ops.shares_tags);
    }

    // A thread that fails keeps START_DEV waiting, which then knows no better than ETIMEDOUT.
    template <class Command>
    void resolve_start(Command command) {
        try {
            command();
        } catch (const error&) {
            if (const int code = threads_->failure(); code != 0) {
                fail(code, "starting the queue threads", info_.id,
                     "the driver or the ring refused a queue thread", "see dmesg");
            }
            throw;
        }
        threads_->start_resolved();
    }

    void make_threads(const device_ops<Kernel>& ops, std::vector<const registered_file*> files) {
        device_setup setup =
            make_setup(kernel_, requested_, ops, info_, threads_to_share(), control_);
        setup.files = std::move(files);
        auto channel =
            kernel_.open_channel(info_.id, from_now(kernel_, requested_.command_deadline));
        threads_ = std::make_shared<queue_threads<Kernel>>(kernel_, ops, std::move(channel),
                                                           std::move(setup), set_);
        info_.threads = static_cast<unsigned>(threads_->size());
    }

    // For a queue policy that can have any number.
    [[nodiscard]] unsigned threads_to_share() const noexcept {
        return set_                      ? static_cast<unsigned>(set_.threads)
               : requested_.threads != 0 ? requested_.threads
                                         : kernel_.online_cpus();
    }

    // While our threads are there, /dev/ublkcN is open and keeps the id.
    [[nodiscard]] bool still_ours() {
        return (threads_ && !threads_->gone(deadline{})) ||
               find_own(kernel_, control_, info_.id, identity_);
    }

    // STOP first and join then: the driver writes dirty pages back through our threads.
    void stop_serving() {
        if (!still_ours()) {
            return;
        }
        end().stop();
    }

    [[nodiscard]] device_shutdown<Kernel> end() {
        return {kernel_, requested_, control_, *threads_, info_};
    }

    // With a request that is never answered, DEL_DEV would wait for ever and hold the driver's
    // global mutex meanwhile, which blocks every other ublk device of the host.
    void delete_device() {
        const bool threads_left = threads_ && !threads_->gone(deadline{});
        if (!threads_left && still_ours()) {
            // A client may keep the removed disk open for as long as it likes; that is no failure.
            (void)control_.del_dev(info_.id, device_shutdown<Kernel>::patience(requested_));
        }
    }

    const Kernel& kernel_;
    const options& requested_;
    const thread_set_handle& set_;
    control_commands<Kernel> control_;
    device_identity identity_;
    bool added_ = false;  ///< and to be deleted
    device_info info_;
    start_events events_{requested_, info_};
    std::shared_ptr<queue_threads<Kernel>> threads_;
};

}  // namespace ublk::inline v0::detail
