// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/detail/fd.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/sim/io_slot.hpp>
#include <ublk/sim/request_queue.hpp>
#include <ublk/sim/seam.hpp>
#include <ublk/sim/threads.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace ublk::inline v0::sim {

class driver_device;

/// What a client wrote into the page cache and the kernel has not written back.
struct dirty_page {
    std::uint64_t sector = 0;
    std::vector<std::byte> data;
};

/// The queue of a device as the driver sees it.
struct hardware_queue {
    std::vector<io_slot> slots;
    task* daemon = nullptr;  ///< before 6.16 one task serves a whole queue
    unsigned ready = 0;
    bool orphaned = false;  ///< the thread that served it has ended
    bool canceling = false;
    bool fail_io = false;
    bool force_abort = false;
};

/// What the driver keeps of one ublk device, and what it lets a server do with it at a moment.
struct driver_state {
    using disk = request_queue<driver_device>;

    driver_state(machine& m, const uapi::dev_info& granted)
        : on{m}, info{granted}, queues(granted.nr_hw_queues) {
        for (hardware_queue& q : queues) {
            q.slots.resize(info.queue_depth);
        }
        const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
        stride = uapi::cmd_buf_stride(descriptor_size(), page);
        memory = fd{::memfd_create("ublk-sim", MFD_CLOEXEC)};
        const std::size_t bytes = stride * queues.size();
        if (!memory || ::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0) {
            fail(errno, "making a simulated device", std::nullopt);
        }
        descriptors = mapping{bytes, PROT_READ | PROT_WRITE,      MAP_SHARED, memory.get(),
                              0,     "mapping a simulated device"};
    }

    [[nodiscard]] std::size_t descriptor_size() const noexcept {
        return on.since(7, 3) ? info.io_desc_size : sizeof(uapi::io_desc);
    }
    [[nodiscard]] bool has(std::uint64_t flag) const noexcept { return (info.flags & flag) != 0; }

    /// The kernel copies data itself.
    [[nodiscard]] bool copies() const noexcept {
        namespace feature = uapi::feature;
        return !has(feature::user_copy | feature::support_zero_copy | feature::auto_buf_reg);
    }
    /// Each tag has a buffer of its own, for as long as it is the driver's.
    [[nodiscard]] bool has_tag_buffers() const noexcept {
        return copies() && !has(uapi::feature::need_get_data);
    }
    /// Whether requests wait for a next server while there is none.
    [[nodiscard]] bool queues_without_server() const noexcept {
        return has(uapi::feature::user_recovery) && !has(uapi::feature::user_recovery_fail_io);
    }
    [[nodiscard]] bool per_io_daemon() const noexcept { return on.since(6, 16); }
    [[nodiscard]] bool all_ready() const noexcept { return queues_ready == queues.size(); }

    /// Null where there is no such tag.
    [[nodiscard]] io_slot* find(const io_command& c) noexcept {
        return c.queue.value() < queues.size() && c.t.value() < info.queue_depth
                   ? &queues[c.queue.value()].slots[c.t.value()]
                   : nullptr;
    }

    /// What a FETCH names, and with which a COMMIT may come.
    [[nodiscard]] bool buffer_is_wrong(const io_command& c) const noexcept {
        constexpr std::uint64_t reserved = ~std::uint64_t{0x1ffff};
        const bool bad_place = has(uapi::feature::auto_buf_reg) && (c.registration & reserved) != 0;
        return bad_place ||
               (copies() ? c.address == 0 && !has(uapi::feature::need_get_data) : c.address != 0);
    }

    [[nodiscard]] int check_fetch(const io_slot& slot, const io_command& c) {
        if (buffer_is_wrong(c)) {
            return -EINVAL;
        }
        lock.lock();  // a STOP_DEV may be at it
        lock.unlock();
        return stopping ? uapi::io_res_abort : all_ready() ? -EBUSY : slot.active ? -EINVAL : 0;
    }

    [[nodiscard]] int check_old_fetch(const io_slot& slot, const io_command& c) {
        const hardware_queue& q = queues[c.queue.value()];
        if (q.daemon != nullptr && q.daemon != &on.tasks.running()) {
            return -EINVAL;
        }
        if (slot.active || q.ready == q.slots.size()) {
            return -EBUSY;
        }
        return slot.owned || buffer_is_wrong(c) ? -EINVAL : 0;
    }

    /// Whether the running task may answer for that tag. Batches come from any.
    [[nodiscard]] bool is_daemon(const io_slot& slot) const noexcept {
        return has(uapi::feature::batch_io) || slot.daemon == &on.tasks.running();
    }

    /// Of what needs a request in the server's hands: COMMIT and GET_DATA.
    [[nodiscard]] int check_owned(const io_slot& slot, const io_command& c) const {
        const task* const daemon = queues[c.queue.value()].daemon;
        if (per_io_daemon() ? !is_daemon(slot)
                            : daemon != nullptr && daemon != &on.tasks.running()) {
            return -EINVAL;
        }
        if (slot.active) {
            return -EBUSY;
        }
        if (!slot.owned) {
            return per_io_daemon() ? -EBUSY : -EINVAL;
        }
        const bool gets = (c.op & 0xff) == (uapi::io::need_get_data & 0xff);
        return slot.wants_buffer != gets ? -EINVAL : 0;
    }

    [[nodiscard]] int check_commit(const io_slot& slot, const io_command& c) const {
        if (const int code = check_owned(slot, c); code != 0) {
            return code;
        }
        const bool read = live->slot(c.queue.value(), c.t.value()).part.op == uapi::op::read;
        const bool placeless = has(uapi::feature::need_get_data) && read && c.address == 0;
        return placeless || buffer_is_wrong(c) ? -EINVAL : 0;
    }

    void set_canceling() noexcept {
        canceling = true;
        for (hardware_queue& q : queues) {
            q.canceling = true;
        }
    }

    /// Ready for a next round of FETCH.
    void reset_rounds() {
        for (hardware_queue& q : queues) {
            q.ready = 0;
            q.daemon = nullptr;
            q.orphaned = false;
            for (io_slot& slot : q.slots) {
                (void)slot.open_buffer();
                slot = io_slot{.canceled = per_io_daemon() && slot.canceled};
            }
            if (!per_io_daemon()) {
                q.canceling = q.fail_io = false;
            }
        }
        canceling = false;
        queues_ready = 0;
    }

    /// What AddressSanitizer is to report of a buffer: nothing where a server may do anything.
    [[nodiscard]] std::size_t forbidden_reach() const noexcept {
        return on.is.strict ? info.max_io_buf_bytes : 0;
    }

    void take_command(io_slot& slot, ring& from, const io_command& c, std::size_t watched) {
        slot.to = &from;
        slot.ud = c.ud;
        slot.buffer = c.buffer();
        slot.registration = c.registration;
        slot.active = true;
        slot.owned = slot.aborted = false;
        if (has_tag_buffers()) {
            slot.close_buffer(std::min<std::size_t>(watched, info.max_io_buf_bytes),
                              forbidden_reach());
        }
    }

    void mark_ready(hardware_queue& q, io_slot& slot) {
        slot.canceled = false;
        if (++q.ready == q.slots.size()) {
            ++queues_ready;
            q.daemon = slot.daemon;
            if (per_io_daemon()) {
                q.canceling = q.canceling && canceling;
                q.fail_io = q.force_abort = false;
            }
        }
        if (all_ready()) {
            on.tasks.wake(ready_changed);
        }
    }

    [[nodiscard]] static std::string name(const io_command& c) {
        return "queue " + std::to_string(c.queue.value()) + " tag " + std::to_string(c.t.value());
    }

    /// The driver writes up to `max_io_buf_bytes` into a buffer, whatever else is there.
    void watch_place(const io_slot& mine, const io_command& c) {
        const std::uintptr_t here = c.address;
        if (!has_tag_buffers()) {
            return;
        }
        for (const hardware_queue& q : queues) {
            for (const io_slot& other : q.slots) {
                const auto there = reinterpret_cast<std::uintptr_t>(other.buffer);
                const std::uintptr_t apart = here < there ? there - here : here - there;
                if (&other != &mine && other.active && !other.canceled && there != 0 &&
                    apart < info.max_io_buf_bytes) {
                    on.violation("the buffer of " + name(c) + " overlaps with another tag's");
                    return;
                }
            }
        }
    }

    /// What a server must never say: the driver takes a short result for the whole.
    void watch_result(const io_command& c, const request_slot& rq) {
        const bool data = rq.part.op == uapi::op::read || rq.part.op == uapi::op::write;
        const auto whole = static_cast<std::int64_t>(sectors_to_bytes(rq.part.sectors));
        if (data && c.result >= 0 && c.result != whole) {
            on.violation("a short result is committed: " + name(c) + ", " +
                         std::to_string(c.result) + " of " + std::to_string(whole) + " bytes");
        } else if (c.result == -EAGAIN || c.result == -EINTR || c.result == -EREMCHG) {
            on.violation("a result is committed that clients misread: " + name(c) + ", " +
                         reason(c.result));
        }
    }

    [[nodiscard]] static std::string reason(int code) { return std::strerror(-code); }

    machine& on;
    uapi::dev_info info;
    uapi::params params{};
    std::vector<hardware_queue> queues;
    std::shared_ptr<disk> live;             ///< /dev/ublkbN
    fd memory;                              ///< of the descriptors
    std::shared_ptr<copy_window> window{};  ///< of the open /dev/ublkcN, with USER_COPY
    std::size_t stride = 0;

    mutex lock;
    wait_list ready_changed;
    std::size_t queues_ready = 0;
    bool canceling = false;
    bool used = false;      ///< a disk of it still exists, if only for a client
    bool opened = false;    ///< /dev/ublkcN is
    bool stopping = false;  ///< since 7.3: the server that is there must go first
    bool deleted = false;
    bool block_open = false;
    int server = -1;         ///< process that opened it
    unsigned file_refs = 0;  ///< to that open file
    unsigned refs = 1;       ///< to the device's number
    process* opener = nullptr;
    std::vector<dirty_page> dirty;
    unsigned openers = 0;  ///< of /dev/ublkbN
    bool scanning = false;
    bool scan_cancelled = false;
    wait_list scan_ended;

    /// Before 6.16 the driver learns of a server's end when a command is cancelled.
    bool wants_stop_work = false;

    mapping descriptors;
};

}  // namespace ublk::inline v0::sim
