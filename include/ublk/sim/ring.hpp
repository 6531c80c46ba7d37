// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/kernel/operation.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/sim/bio.hpp>
#include <ublk/sim/buffer_table.hpp>
#include <ublk/sim/flight.hpp>
#include <ublk/sim/machine.hpp>
#include <ublk/sim/seam.hpp>
#include <ublk/uapi.hpp>
#include <ublk/units.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace ublk::inline v0::sim {

struct ring;
struct control_call;
class driver_device;

/// What rouses a thread that has several rings.
struct wakeup_event_state {
    void wake() {
        rung = true;
        if (!waiting.empty()) {
            scheduler::here()->wake(waiting);
        }
    }
    bool rung = false;
    wait_list waiting{};
};

/// A process that serves disks. Its code may run on after its death, but nothing of that reaches
/// the kernel any more.
struct process {
    int pid = 0;
    bool dead = false;
    std::vector<ring*> rings{};
    std::vector<std::shared_ptr<driver_device>> files{};  ///< a reference to /dev/ublkcN each
    std::vector<std::weak_ptr<control_call>> calls{};
};

struct completion_event {
    user_data ud;
    int result;
};

/// An I/O command for the driver.
struct io_command {
    std::uint32_t op = 0;
    queue_id queue{};
    tag t{};
    int result = 0;
    std::uint64_t address = 0;       ///< of a buffer, or a place in the table of buffers
    std::uint64_t registration = 0;  ///< uapi::auto_buf_reg
    user_data ud{0};

    [[nodiscard]] std::byte* buffer() const noexcept {
        return reinterpret_cast<std::byte*>(address);
    }
};

/// What waits in the submission queue.
struct queued_entry {
    enum class kind : std::uint8_t { command, operation, cancel, listen, batch, fetch_batches };
    kind type = kind::command;
    io_command command{};  ///< of the others only the user_data counts
    submission sqe{};      ///< of an operation
    uapi::batch_io batch{};
    bool quiet = false;                   ///< of a batch: an event only for a refusal
    const std::byte* elements = nullptr;  ///< of a batch
};

/// The io_uring of one server thread, as the kernel has it: with task work that is only run when
/// that thread enters the kernel (IORING_SETUP_DEFER_TASKRUN).
struct ring {
    ring(machine& m, process& p, std::size_t room)
        : on{m}, owner{p}, issuer{&m.tasks.running()}, capacity{room} {
        p.rings.push_back(this);
    }
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;
    ~ring() { std::erase(owner.rings, this); }

    /// Completions beyond the queue's capacity wait in a list (IORING_FEAT_NODROP).
    void post(user_data ud, int result) {
        if (gone) {
            return;
        }
        (ready.size() < capacity ? ready : overflow).push_back({ud, result});
        wake();
    }

    /// Moves what overflowed into the room that there is now.
    void catch_up() {
        while (!overflow.empty() && ready.size() < capacity) {
            ready.push_back(overflow.front());
            overflow.pop_front();
        }
    }

    /// Task work: a request to be looked at in the ring's own thread, or, without one, a completion
    /// that comes after the work before it.
    struct task_work {
        driver_device* of = nullptr;
        request_slot* rq = nullptr;
        completion_event event{user_data{0}, 0};
    };

    void give_work(const task_work& item) {
        work.push_back(item);
        wake();
    }

    /// Whether entering the kernel brings events.
    [[nodiscard]] bool has_work() const noexcept { return !work.empty() || !overflow.empty(); }

    void wake() {
        on.tasks.wake(sleeping);
        if (wakeup_event != nullptr) {
            wakeup_event->wake();
        }
    }

    machine& on;
    process& owner;
    task* issuer;  ///< the only one that may submit (IORING_SETUP_SINGLE_ISSUER)
    std::size_t capacity;
    std::vector<queued_entry> queued;
    std::deque<completion_event> ready;
    std::deque<completion_event> overflow;
    std::vector<task_work> work;
    std::vector<flight_ptr> flights;      ///< operations that were not answered yet
    std::size_t operations_declared = 0;  ///< of one request at the same time
    buffer_table buffers;
    std::function<std::uint64_t(const std::byte*)> whose;  ///< request that has memory there, or 0
    wait_list sleeping;
    wakeup_event_state* wakeup_event = nullptr;
    bool gone = false;
};

}  // namespace ublk::inline v0::sim
