// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/driver_state.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace ublk::inline v0::sim {

/// One ublk device in the driver: requests on their way to the server and back. What starts and
/// ends it is the control plane's.
class driver_device : public driver_state {
public:
    using driver_state::driver_state;

    // ---------------------------------------------------------------- from the block layer

    void queue_rq(request_slot& rq) {
        hardware_queue& q = queues[rq.queue];
        if (q.fail_io) {
            live->end(rq, EREMOTEIO);
        } else if (queues_without_server() && q.force_abort) {
            live->end(rq, EIO);
        } else if (q.canceling) {
            abort(rq);
        } else if (io_slot& slot = q.slots[rq.tag]; slot.to == nullptr || !slot.active) {
            on.violation("a request meets a tag that no server has fetched (a kernel crashes)");
            live->end(rq, EIO);
        } else if (slot.to->gone) {
            abort(rq);
        } else {
            rq.started = true;
            slot.to->give_work({this, &rq});
        }
    }

    // ---------------------------------------------------------------- from the server

    /// 0, or the errno (negative) that answers the command at once.
    [[nodiscard]] int fetch(ring& from, const io_command& c) {
        int code = 0;
        io_slot* const slot = find(c);
        if (slot == nullptr) {
            code = -EINVAL;
        } else {
            code = has(uapi::feature::batch_io) ? -EOPNOTSUPP
                   : per_io_daemon()            ? check_fetch(*slot, c)
                                                : check_old_fetch(*slot, c);
            if (from.gone) {
                return -EOWNERDEAD;  // the process was killed while this waited for the lock
            }
            if (code == 0) {
                watch_place(*slot, c);
                take_command(*slot, from, c, 64);
                slot->daemon = &on.tasks.running();
                mark_ready(queues[c.queue.value()], *slot);
                return 0;
            }
        }
        if (code != uapi::io_res_abort) {
            on.violation("FETCH_REQ of " + name(c) + " is refused: " + reason(code));
        }
        return code;
    }

    [[nodiscard]] int commit(ring& from, const io_command& c) {
        io_slot* const slot = find(c);
        const int code = slot == nullptr                ? -EINVAL
                         : has(uapi::feature::batch_io) ? -EOPNOTSUPP
                                                        : check_commit(*slot, c);
        if (code != 0) {
            on.violation("COMMIT_AND_FETCH_REQ of " + name(c) + " is refused: " + reason(code));
            return code;
        }
        slot->result = c.result;
        request_slot& rq = live->slot(c.queue.value(), c.which.value());
        watch_result(c, rq);
        if (c.buffer != slot->buffer) {
            watch_place(*slot, c);
        }
        (void)slot->open_buffer();
        // The data is copied from the buffer that this very command names.
        slot->buffer = const_cast<std::byte*>(c.buffer);
        complete(*slot, rq, static_cast<std::size_t>(sectors_to_bytes(rq.what.sectors)), from, c);
        return 0;
    }

    /// Task work in the thread that fetched the tag: the request goes to the server.
    void dispatch(ring& through, request_slot& rq) {
        io_slot& slot = queues[rq.queue].slots[rq.tag];
        if (!slot.open_buffer()) {
            on.violation("the buffer of queue " + std::to_string(rq.queue) + " tag " +
                         std::to_string(rq.tag) + " was written to while the driver had it");
        }
        describe(slot, rq);
        if (slot.daemon != &on.tasks.running() || through.gone) {
            abort(rq);
            return;
        }
        const std::size_t bytes = sectors_to_bytes(rq.what.sectors);
        if (has(uapi::feature::auto_buf_reg) && rq.what.data != nullptr) {
            live->end(rq, EIO);  // no ring here has a table of buffers to register it in
            return;
        }
        slot.active = false;
        slot.owned = true;
        if (has(uapi::feature::need_get_data) && rq.what.op == uapi::op::write) {
            slot.wants_buffer = true;
            through.post(slot.t, uapi::io_res_need_get_data);
            return;
        }
        if (copies() && rq.what.op == uapi::op::write) {
            std::memcpy(slot.buffer, rq.what.data, bytes);
        } else if (copies() && rq.what.op == uapi::op::read && slot.buffer != nullptr) {
            std::memset(slot.buffer, static_cast<int>(stale), bytes);
        }
        if (copies()) {
            slot.lend_buffer(rq.what.data != nullptr ? bytes : 0, forbidden_reach());
        }
        through.post(slot.t, uapi::io_res_ok);
    }

    // ---------------------------------------------------------------- ends

    /// The commands of a ring that goes away, and the requests on their way to it.
    void forget(ring& leaving, std::vector<ring::task_work>& work) {
        std::erase_if(work, [&](const ring::task_work& item) {
            request_slot* const rq = item.rq;
            if (item.of != this || rq == nullptr) {
                return false;
            }
            (void)queues[rq->queue].slots[rq->tag].open_buffer();
            abort(*rq);
            return true;
        });
        for (hardware_queue& q : queues) {
            for (io_slot& slot : q.slots) {
                if (slot.to == &leaving) {
                    if (slot.active) {
                        start_cancel(q);
                        cancel(q, slot);
                    }
                    (void)slot.open_buffer();
                    slot.to = nullptr;
                    q.orphaned = true;
                }
            }
        }
    }

    /// Before 6.16: a server that dies with all tags of a queue in its hands cancels nothing, and
    /// the driver only learns of it when a request times out.
    void time_out() {
        for (hardware_queue& q : queues) {
            const bool all_owned = std::all_of(q.slots.begin(), q.slots.end(),
                                               [](const io_slot& s) { return !s.active; });
            if (live != nullptr && q.orphaned && all_owned) {
                start_cancel(q);
            }
        }
    }

    /// Gives every waiting command back for good.
    void cancel_all() {
        for (hardware_queue& q : queues) {
            for (io_slot& slot : q.slots) {
                cancel(q, slot);
            }
        }
    }

    /// Fails or keeps what the server had when it went.
    void abort_owned(hardware_queue& q) {
        for (std::size_t t = 0; t < q.slots.size() && live != nullptr; ++t) {
            io_slot& slot = q.slots[t];
            request_slot& rq =
                live->slot(static_cast<unsigned>(&q - queues.data()), static_cast<unsigned>(t));
            if (slot.owned && rq.started) {
                slot.aborted = true;
                slot.owned = false;
                if (has(uapi::feature::user_recovery_reissue)) {
                    live->requeue(rq);
                } else {
                    live->end(rq, EIO);
                }
            }
        }
    }

private:
    void complete(io_slot& slot, request_slot& rq, std::size_t bytes, ring& from,
                  const io_command& c) {
        const bool read = rq.what.op == uapi::op::read;
        // Older kernels ask for the rest of any short transfer, newer ones only of a read that they
        // copy; else they take it for the whole.
        const bool partly =
            on.since(6, 16) ? read && copies() : read || rq.what.op == uapi::op::write;
        std::uint32_t sectors_done = rq.what.sectors;
        if (partly && c.result >= 0) {
            const std::size_t got = std::min(bytes, static_cast<std::size_t>(c.result));
            sectors_done = static_cast<std::uint32_t>(bytes_to_sectors(got));
            if (read && copies()) {
                std::memcpy(rq.what.data, c.buffer, got);
            }
        }
        take_command(slot, from, c, bytes_moved(rq));
        if (c.result < 0 || (read && c.result == 0)) {
            live->end(rq, c.result < 0 ? as_client_sees(-c.result) : EIO);
        } else if (sectors_done < rq.what.sectors) {
            live->advance(rq, sectors_done);
        } else {
            live->end(rq, 0);
        }
    }

    [[nodiscard]] static std::size_t bytes_moved(const request_slot& rq) noexcept {
        const bool data = rq.what.op == uapi::op::read || rq.what.op == uapi::op::write;
        return data ? static_cast<std::size_t>(sectors_to_bytes(rq.what.sectors)) : 64;
    }

    void describe(const io_slot& slot, const request_slot& rq) noexcept {
        const uapi::io_desc words{static_cast<std::uint32_t>(rq.what.op) | rq.what.flags,
                                  rq.what.sectors, rq.what.sector,
                                  copies() ? reinterpret_cast<std::uintptr_t>(slot.buffer) : 0};
        std::memcpy(descriptors.data() + rq.queue * stride + rq.tag * descriptor_size(), &words,
                    sizeof words);
    }

    /// Nobody is there to serve it.
    void abort(request_slot& rq) {
        if (queues_without_server()) {
            live->requeue(rq);
        } else {
            live->end(rq, EIO);
        }
    }

    void start_cancel(hardware_queue& q) {
        if (per_io_daemon()) {
            if (!canceling) {
                set_canceling();
            }
        } else if (!q.canceling && live != nullptr) {
            q.canceling = true;
            abort_owned(q);
            wants_stop_work = true;
        }
    }

    void cancel(hardware_queue& q, io_slot& slot) {
        const auto tag = static_cast<unsigned>(&slot - q.slots.data());
        const auto number = static_cast<unsigned>(&q - queues.data());
        const bool on_its_way = live != nullptr && live->slot(number, tag).started;
        if (!slot.active || slot.canceled || on_its_way) {
            return;
        }
        slot.canceled = true;
        if (!slot.open_buffer()) {
            on.violation("a buffer was written to while the driver had it");
        }
        if (slot.to != nullptr) {
            slot.to->give_work({this, nullptr, {slot.t, uapi::io_res_abort}});
        }
    }
};

}  // namespace ublk::inline v0::sim
