// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/control/control_commands.hpp>
#include <ublk/detail/fixed_array.hpp>
#include <ublk/device/device_adder.hpp>
#include <ublk/device/device_ops.hpp>
#include <ublk/device/device_shutdown.hpp>
#include <ublk/device/queue_threads.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/kernel/kernel.hpp>
#include <ublk/options.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
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
        start();
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

    /// Nothing of a start that failed stays, and what goes wrong here must not hide why it failed.
    void give_up() noexcept {
        try {
            if (threads_) {
                end().settle();
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

    void tell_fallbacks() {
        for (std::string& each : threads_->fallbacks()) {
            info_.fallbacks.push_back(std::move(each));
        }
        for (const std::string& each : info_.fallbacks) {
            tell(event::kind::fallback, each);
        }
    }

    [[nodiscard]] device_adder<Kernel> adder(const device_ops<Kernel>& ops,
                                             const disk_attributes& disk,
                                             const refused_setups& refused) const {
        return {kernel_, requested_, cookie_, ops, disk, threads_to_share(), refused};
    }

    void add(const device_ops<Kernel>& ops, const disk_attributes& disk, std::uint64_t known,
             const refused_setups& refused) {
        cookie_ = new_cookie();
        info_ = adder(ops, disk, refused).add(control_, known, [this](std::uint32_t id) {
            info_.id = id;
            added_ = true;
        });
        tell(event::kind::setup,
             "data path " + std::string{to_string(info_.path)} + " (" + info_.path_reason + ")");
        if (ops.batch_io && !info_.batch_io) {
            if (!requested_.fall_back) {
                fail(EOPNOTSUPP, "ADD_DEV", info_.id, "the driver has no batches",
                     "use Linux 7.0 or newer, another batch policy, or options::fall_back");
            }
            info_.fallbacks.push_back("completions go back once a wake-up: " +
                                      (refused.batches.empty()
                                           ? "the driver has no batches, which came with Linux 7.0"
                                           : refused.batches));
        }
        if (const unsigned cpus = std::min(kernel_.online_cpus(), uapi::max_nr_queues);
            requested_.queues == 0 && info_.queues < cpus) {
            tell(event::kind::setup,
                 std::to_string(info_.queues) + " queues for " + std::to_string(cpus) +
                     " CPUs, since its threads could not serve more at this depth");
        }
        if (ops.shares_tags && !info_.per_io_daemon) {
            tell(event::kind::setup,
                 "each queue has one thread, since tags of their own came with Linux 6.16");
        }
    }

    void tell(event::kind type, const std::string& message) const {
        if (requested_.on_event) {
            requested_.on_event({type, info_.id, message});
        }
    }

    // A thread that fails keeps START_DEV waiting, which then knows no better than ETIMEDOUT.
    void start() {
        try {
            control_.start_dev(info_.id, kernel_.process_id());
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
        device_setup setup = make_setup(ops);
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

    [[nodiscard]] device_setup make_setup(const device_ops<Kernel>& ops) {
        device_setup setup{.granted = info_,
                           .page_size = kernel_.page_size(),
                           .requested = requested_,
                           .shape = {.queues = info_.queues,
                                     .depth = info_.depth,
                                     .threads = threads_to_share(),
                                     .per_io_daemon = info_.per_io_daemon}};
        if (ops.needs_affinity) {
            setup.affinity = fixed_array<cpu_set>{info_.queues};
        }
        for (std::size_t q = 0; q < setup.affinity.size(); ++q) {
            setup.affinity[q] =
                control_.get_queue_affinity(info_.id, queue_id{static_cast<std::uint16_t>(q)});
        }
        if (ops.neighbours != cpu_domain::none) {
            setup.neighbours = kernel_.neighbours(
                requested_.cpus.empty() ? std::optional<unsigned>{} : requested_.cpus.front(),
                ops.neighbours);
        }
        return setup;
    }

    [[nodiscard]] std::uint64_t new_cookie() const noexcept {
        const auto now = kernel_.now().time_since_epoch().count();
        return static_cast<std::uint64_t>(now) ^ static_cast<std::uint64_t>(kernel_.process_id())
                                                     << 40;
    }

    // While our threads are there, /dev/ublkcN is open and keeps the id. Once they have left,
    // somebody may have deleted the device and the driver may have given its id to another, which
    // is not ours to stop.
    [[nodiscard]] bool still_ours() {
        if (threads_ && !threads_->gone(deadline{})) {
            return true;
        }
        try {
            return control_.get_dev_info(info_.id).server_flags == cookie_;
        } catch (const error& none) {
            if (none.errno_value() != ENODEV) {
                throw;
            }
            return false;
        }
    }

    // STOP first and join then: the driver writes dirty pages back through our threads.
    void stop_serving() {
        if (!still_ours()) {
            return;
        }
        end().stop();
    }

    [[nodiscard]] device_shutdown<Kernel> end() {
        return {kernel_, requested_, control_, *threads_, info_.id};
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
    std::uint64_t cookie_ = 0;  ///< what the driver keeps of us beside the id
    bool added_ = false;
    device_info info_;
    std::shared_ptr<queue_threads<Kernel>> threads_;
};

}  // namespace ublk::inline v0::detail
