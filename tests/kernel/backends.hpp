// SPDX-License-Identifier: MIT
#pragma once

// Backends of memory that note what reaches them and do what a test tells them to. The types differ
// in what a device derives from a type; how they behave is a value. All are handles: a copy shows
// the same disk.

#include <ublk/backend.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/request.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <ostream>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace ublk_test {

/// One request as the backend saw it.
struct event {
    ublk::uapi::op op;
    std::uint64_t offset;
    std::uint64_t length;
    std::uint32_t flags;
    std::uint16_t queue;

    [[nodiscard]] bool fua() const noexcept { return (flags & ublk::uapi::io_flag::fua) != 0; }
    [[nodiscard]] bool no_unmap() const noexcept {
        return (flags & ublk::uapi::io_flag::nounmap) != 0;
    }
    friend std::ostream& operator<<(std::ostream& out, const event& e) {
        return out << "op " << static_cast<int>(e.op) << " at " << e.offset << " + " << e.length
                   << ", flags " << std::hex << e.flags << std::dec << ", queue " << e.queue;
    }
};

/// What a request meets before the memory does; a failure is the answer. It may wait and throw.
using hook = std::function<ublk::result(const ublk::request&)>;

/// A disk of memory that records. By itself it reads and writes, no more.
class ram {
public:
    explicit ram(std::uint64_t size, hook before = {})
        : state_{std::make_shared<state>(size, std::move(before))} {}

    [[nodiscard]] std::uint64_t size() const noexcept { return state_->store.size(); }

    ublk::result read(const ublk::request& r, std::span<std::byte> out) {
        const ublk::result answer = note(r);
        if (answer.ok()) {
            std::memcpy(out.data(), at(r), out.size());
        }
        return answer;
    }
    ublk::result write(const ublk::request& r, std::span<const std::byte> in) {
        const ublk::result answer = note(r);
        if (answer.ok()) {
            std::memcpy(at(r), in.data(), in.size());
        }
        return answer;
    }

    // For the test.

    /// The whole disk; look at it while nobody writes.
    [[nodiscard]] std::span<std::byte> store() const noexcept {
        return {state_->store.data(), state_->store.size()};
    }

    [[nodiscard]] std::vector<event> events() const {
        const std::lock_guard lock{state_->mutex};
        return state_->events;
    }
    [[nodiscard]] std::vector<event> events(ublk::uapi::op op_code) const {
        std::vector<event> some = events();
        std::erase_if(some, [op_code](const event& e) { return e.op != op_code; });
        return some;
    }
    [[nodiscard]] std::size_t count(ublk::uapi::op op_code) const { return events(op_code).size(); }
    void forget_events() const {
        const std::lock_guard lock{state_->mutex};
        state_->events.clear();
    }

protected:
    ublk::result note(const ublk::request& r) const {
        {
            const std::lock_guard lock{state_->mutex};
            state_->events.push_back(
                {r.op(), r.offset(), r.length(), r.flags(), r.queue().value()});
        }
        return state_->before ? state_->before(r) : ublk::ok;
    }
    ublk::result clear(const ublk::request& r) const {
        const ublk::result answer = note(r);
        if (answer.ok()) {
            std::memset(at(r), 0, r.length());
        }
        return answer;
    }

private:
    struct state {
        state(std::uint64_t size, hook h)
            : store{static_cast<std::size_t>(size),
                    PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1,
                    0,
                    "a disk of memory"},
              before{std::move(h)} {}

        ublk::detail::mapping store;
        hook before;
        std::mutex mutex;
        std::vector<event> events;
    };

    /// A request beyond the end would be a bug of driver or library: nothing is overrun by it.
    [[nodiscard]] std::byte* at(const ublk::request& r) const {
        if (r.offset() + r.length() > size()) {
            throw std::out_of_range{"a request beyond the end of the disk"};
        }
        return state_->store.data() + r.offset();
    }

    std::shared_ptr<state> state_;
};

/// Has a volatile cache.
struct flushing_ram : ram {
    using ram::ram;
    ublk::result flush(const ublk::request& r) { return note(r); }
};

/// Has a volatile cache and can write through it.
struct fua_ram : flushing_ram {
    using flushing_ram::flushing_ram;
    static constexpr bool fua = true;
};

/// Discards and writes zeroes, so many bytes at most.
struct trimming_ram : ram {
    trimming_ram(std::uint64_t bytes, std::uint64_t most) : ram{bytes}, most_{most} {}
    ublk::result discard(const ublk::request& r) { return clear(r); }
    ublk::result write_zeroes(const ublk::request& r) { return clear(r); }
    [[nodiscard]] std::uint64_t max_discard_size() const noexcept { return most_; }
    [[nodiscard]] std::uint64_t max_write_zeroes_size() const noexcept { return most_; }

private:
    std::uint64_t most_;
};

/// Cannot be written to, though there is a function for it.
struct frozen_ram : ram {
    using ram::ram;
    static constexpr bool read_only = true;
};

/// With blocks of that many bytes.
struct block_ram : ram {
    block_ram(std::uint64_t bytes, std::uint32_t block) : ram{bytes}, block_{block} {}
    [[nodiscard]] std::uint32_t logical_block_size() const noexcept { return block_; }

private:
    std::uint32_t block_;
};

// ---------------------------------------------------------------- hooks

/// Answers requests of one kind that touch a range with an errno, from `arm` to `disarm`. A flush
/// has no range, so it is always hit.
class injector {
public:
    void arm(ublk::uapi::op op, std::uint64_t offset, std::uint64_t length, int code) const {
        const std::lock_guard lock{state_->mutex};
        state_->fault = {op, offset, length, code};
    }
    void disarm() const { arm(ublk::uapi::op::write_same, 0, 0, 0); }

    ublk::result operator()(const ublk::request& r) const {
        const std::lock_guard lock{state_->mutex};
        const auto& f = state_->fault;
        const bool touches = r.offset() < f.offset + f.length && r.offset() + r.length() > f.offset;
        const bool hit =
            f.code != 0 && r.op() == f.op && (touches || r.op() == ublk::uapi::op::flush);
        return hit ? ublk::result::failure(f.code) : ublk::ok;
    }

private:
    struct fault_at {
        ublk::uapi::op op = ublk::uapi::op::write_same;
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
        int code = 0;
    };
    struct state {
        std::mutex mutex;
        fault_at fault;
    };
    std::shared_ptr<state> state_ = std::make_shared<state>();
};

/// Throws on requests that begin in that range.
[[nodiscard]] inline hook throwing(std::uint64_t offset, std::uint64_t length) {
    return [=](const ublk::request& r) -> ublk::result {
        if (r.offset() >= offset && r.offset() < offset + length) {
            if (r.op() == ublk::uapi::op::read) {
                throw std::runtime_error{"a backend that throws"};
            }
            throw 7;  // not even an exception
        }
        return ublk::ok;
    };
}

/// Takes that long over each request.
[[nodiscard]] inline hook slow(std::chrono::milliseconds delay) {
    return [delay](const ublk::request&) -> ublk::result {
        std::this_thread::sleep_for(delay);
        return ublk::ok;
    };
}

/// Keeps requests while it is shut. It opens with the destruction of the last copy outside of
/// backends at the latest, and of itself long before the kernel loses its patience.
class gate {
public:
    gate()
        : state_{std::make_shared<state>()}, key_{state_.get(),
                                                  [keep = state_](state* s) { s->set(true); }} {}

    void shut() const { state_->set(false); }
    void open() const { state_->set(true); }

    /// How many requests stand before it.
    [[nodiscard]] unsigned waiting() const { return state_->waiting; }

    [[nodiscard]] hook as_hook() const {
        return [s = state_](const ublk::request&) {
            ++s->waiting;
            s->pass();
            --s->waiting;
            return ublk::ok;
        };
    }

private:
    struct state {
        void set(bool now) {
            const std::lock_guard lock{mutex};
            is_open = now;
            changed.notify_all();
        }
        void pass() {
            std::unique_lock lock{mutex};
            (void)changed.wait_for(lock, std::chrono::seconds{50}, [this] { return is_open; });
        }
        std::mutex mutex;
        std::condition_variable changed;
        bool is_open = true;
        std::atomic<unsigned> waiting = 0;
    };
    std::shared_ptr<state> state_;
    std::shared_ptr<state> key_;
};

}  // namespace ublk_test
