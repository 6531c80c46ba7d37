// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/driver_data.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

/// One ublk device in the driver: requests on their way to the server and back. What starts and
/// ends it is the control plane's.
class driver_device final : public driver_data {
public:
    using driver_data::driver_data;

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
    [[nodiscard]] int carry_out(ring& from, const io_command& c) {
        const auto is = [&c](std::uint32_t op) { return (c.op & 0xff) == (op & 0xff); };
        const bool registers = is(uapi::io::register_io_buf) || is(uapi::io::unregister_io_buf);
        const bool of_batch = c.op == uapi::io::prep_io_cmds || c.op == uapi::io::commit_io_cmds;
        if (!registers && of_batch != has(uapi::feature::batch_io)) {
            return refuse_kind(c, of_batch);
        }
        if (is(uapi::io::fetch_req) || is(uapi::io::prep_io_cmds)) {
            return fetch(from, c);
        }
        int code = 0;
        const char* command = "COMMIT_AND_FETCH_REQ";
        if (is(uapi::io::register_io_buf)) {
            command = "REGISTER_IO_BUF";
            code = on.since(6, 15) ? register_pages(from, c) : -EINVAL;
        } else if (is(uapi::io::unregister_io_buf)) {
            command = "UNREGISTER_IO_BUF";
            code = on.since(6, 15) ? unregister_pages(from, c) : -EINVAL;
        } else if (is(uapi::io::need_get_data)) {
            command = "NEED_GET_DATA";
            code = get_data(from, c);
        } else {
            code = commit(from, c);
        }
        if (code != 0) {
            on.violation(std::string{command} + " of " + name(c) + " is refused: " + reason(code));
        }
        return code;
    }

    /// Task work in the thread that fetched the tag: the request goes to the server.
    void dispatch(ring& through, request_slot& rq) {
        io_slot& slot = queues[rq.queue].slots[rq.tag];
        if (!slot.open_buffer()) {
            on.violation("the buffer of queue " + std::to_string(rq.queue) + " tag " +
                         std::to_string(rq.tag) + " was written to while the driver had it");
        }
        describe(slot, rq);
        if (!is_daemon(slot) || !slot.active || through.gone) {
            abort(rq);
            return;
        }
        const bool asks = asks_for_place(slot, rq);
        if (!asks && !bring(through, slot, rq)) {
            live->end(rq, EIO);
            return;
        }
        slot.active = false;
        slot.owned = true;
        if (!std::exchange(slot.wants_buffer, asks)) {
            note(journal::kind::handed, rq);
        }
        through.post(slot.ud, asks ? uapi::io_res_need_get_data : uapi::io_res_ok);
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
    [[nodiscard]] int fetch(ring& from, const io_command& c) {
        int code = 0;
        io_slot* const slot = find(c);
        if (slot == nullptr) {
            code = -EINVAL;
        } else {
            code = per_io_daemon() ? check_fetch(*slot, c) : check_old_fetch(*slot, c);
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
        const int code = slot == nullptr ? -EINVAL : check_commit(*slot, c);
        if (code != 0) {
            return code;
        }
        request_slot& rq = live->slot(c.queue.value(), c.t.value());
        watch_result(c, rq);
        if (c.buffer() != slot->buffer) {
            watch_place(*slot, c);
        }
        (void)slot->open_buffer();
        slot->result = c.result;
        // The data is copied from the buffer that this very command names.
        slot->sectors_done = take_back(c, rq);
        unregister_by_itself(from, *slot);
        const std::size_t bytes = bytes_of(rq);
        take_command(*slot, from, c, bytes != 0 ? bytes : 64);
        if (slot->pages != 0) {
            slot->answered = true;
        } else {
            finish(*slot, rq);
        }
        return 0;
    }

    void finish(io_slot& slot, request_slot& rq) override {
        note(journal::kind::committed, rq, slot.result);
        const bool nothing_read = rq.part.op == uapi::op::read && slot.result == 0;
        if (slot.result < 0 || nothing_read) {
            live->end(rq, slot.result < 0 ? as_client_sees(-slot.result) : EIO);
        } else if (slot.sectors_done < rq.part.sectors) {
            live->advance(rq, slot.sectors_done);
        } else {
            live->end(rq, 0);
        }
    }

    /// Where a write's bytes are to go: the same request comes again with them.
    [[nodiscard]] int get_data(ring& from, const io_command& c) {
        io_slot* const slot = find(c);
        const int code = slot == nullptr ? -EINVAL : check_owned(*slot, c);
        if (code != 0) {
            return code;
        }
        request_slot& rq = live->slot(c.queue.value(), c.t.value());
        take_command(*slot, from, c, 0);
        if (on.since(6, 16)) {
            dispatch(from, rq);
        } else {
            from.give_work({this, &rq});
        }
        return 0;
    }

    void note(journal::kind type, request_slot& rq, int result = 0) {
        if (journal* const book = on.is.book; book != nullptr) {
            rq.number = type == journal::kind::handed ? book->next_number() : rq.number;
            journal::entry line{.type = type, .number = rq.number, .result = result};
            line.op = rq.part.op;
            line.flags = rq.part.flags;
            line.sector = rq.part.sector;
            line.sectors = rq.part.sectors;
            book->add(line);
        }
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
            slot.to->give_work({this, nullptr, {slot.ud, uapi::io_res_abort}});
        }
    }
};

}  // namespace ublk::inline v0::sim
