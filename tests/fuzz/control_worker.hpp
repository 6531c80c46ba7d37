// SPDX-License-Identifier: MIT
#pragma once

// A thread of a simulated server that does what it is told, one order after the other, whether that
// makes sense or not. It may get stuck in the kernel; nobody waits for it without a limit.

#include "bytes.hpp"

#include <ublk/error.hpp>
#include <ublk/features.hpp>
#include <ublk/mapping.hpp>
#include <ublk/sim/kernel.hpp>
#include <ublk/sim/world.hpp>
#include <ublk/token.hpp>
#include <ublk/uapi.hpp>

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace ublk_fuzz {

namespace sim = ublk::sim;
namespace uapi = ublk::uapi;

/// Tag buffers outlive their ports, and the world: the driver may still point to them.
using arena = std::deque<std::vector<std::byte>>;

/// One queue thread's ring, and what it knows of the device.
class port_box {
public:
    static constexpr std::size_t memory_max = std::size_t{1} << 20;

    port_box(const sim::kernel::channel& channel, const uapi::dev_info& granted, bool spaced,
             arena& memory)
        : info{granted}, descriptor_size_{spaced ? granted.io_desc_size : sizeof(uapi::io_desc)},
          port_{channel, waker_, {.tags = unsigned{granted.nr_hw_queues} * granted.queue_depth}} {
        const std::size_t all =
            std::size_t{info.nr_hw_queues} * info.queue_depth * info.max_io_buf_bytes;
        if (all <= memory_max) {
            buffers_ = memory.emplace_back(all).data();
        }
        const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
        for (std::size_t q = 0; q < info.nr_hw_queues; ++q) {
            descriptors_.push_back(
                channel.map(q * uapi::cmd_buf_stride(descriptor_size_, page),
                            uapi::cmd_buf_size(info.queue_depth, descriptor_size_, page)));
        }
    }

    void wake() const { waker_.wake(); }

    void fetch(unsigned queue, unsigned tag, bool with_buffer) {
        port_.fetch(number(queue), ublk::tag{static_cast<std::uint16_t>(tag)},
                    address(queue, tag, with_buffer), token(queue, tag));
    }

    void fetch_all() {
        for (unsigned q = 0; q < info.nr_hw_queues; ++q) {
            for (unsigned t = 0; t < info.queue_depth; ++t) {
                fetch(q, t, copies());
            }
        }
    }

    void commit(unsigned queue, unsigned tag, int result, bool with_buffer) {
        std::erase(owned_, std::pair{queue, tag});
        port_.commit(number(queue), ublk::tag{static_cast<std::uint16_t>(tag)}, result,
                     address(queue, tag, with_buffer), token(queue, tag));
    }

    [[nodiscard]] ublk::buffer_address address(unsigned queue, unsigned tag, bool with_buffer) {
        return {.memory = with_buffer ? reinterpret_cast<std::uintptr_t>(buffer(queue, tag)) : 0};
    }

    void flush() { (void)port_.flush(); }
    void wait() { (void)port_.wait(); }

    /// Takes what there is; with `answer` commits all that it has, with 0 for success in full.
    void serve(bool answer, int result) {
        (void)port_.flush_and_collect();
        port_.drain([this](ublk::token t, int code) { take(t, code); });
        for (const auto& [queue, tag] : std::vector{owned_}) {
            if (answer) {
                commit(queue, tag, result != 0 ? result : whole(queue, tag), copies());
            }
        }
        (void)port_.flush_and_collect();
    }

    const uapi::dev_info info;

private:
    [[nodiscard]] static ublk::queue_id number(unsigned queue) noexcept {
        return ublk::queue_id{static_cast<std::uint16_t>(queue)};
    }
    [[nodiscard]] static ublk::token token(unsigned queue, unsigned tag) noexcept {
        return ublk::token::io(static_cast<std::uint16_t>(queue),
                               ublk::tag{static_cast<std::uint16_t>(tag)});
    }
    [[nodiscard]] bool inside(unsigned queue, unsigned tag) const noexcept {
        return queue < info.nr_hw_queues && tag < info.queue_depth;
    }
    [[nodiscard]] bool copies() const noexcept {
        using namespace uapi::feature;
        return (info.flags & (user_copy | support_zero_copy | auto_buf_reg)) == 0;
    }
    [[nodiscard]] std::byte* buffer(unsigned queue, unsigned tag) const noexcept {
        return buffers_ == nullptr || !inside(queue, tag)
                   ? nullptr
                   : buffers_ +
                         (std::size_t{queue} * info.queue_depth + tag) * info.max_io_buf_bytes;
    }
    [[nodiscard]] uapi::io_desc descriptor(unsigned queue, unsigned tag) const {
        uapi::io_desc words;
        std::memcpy(static_cast<void*>(&words), descriptors_[queue].data() + tag * descriptor_size_,
                    sizeof words);
        return words;
    }

    [[nodiscard]] int whole(unsigned queue, unsigned tag) const {
        return static_cast<int>(ublk::sectors_to_bytes(descriptor(queue, tag).nr_sectors));
    }

    void take(ublk::token t, int code) {
        if (!t.is_io()) {
            expect(code == 1, "a wake-up has another result");
            return;
        }
        const unsigned queue = t.place();
        const unsigned tag = t.which().value();
        const bool refused = code == -EINVAL || code == -EBUSY || code == uapi::io_res_abort;
        if (code == uapi::io_res_ok) {
            expect(inside(queue, tag), "a request with a tag that does not exist");
            check(descriptor(queue, tag), buffer(queue, tag));
            owned_.emplace_back(queue, tag);
        } else if (code == uapi::io_res_need_get_data) {
            expect((info.flags & uapi::feature::need_get_data) != 0,
                   "NEED_GET_DATA, though nobody asked for it");
        } else if (!refused) {
            wrong("a command is answered with " + std::to_string(code));
        }
    }

    void check(const uapi::io_desc& d, const std::byte* mine) const {
        const uapi::op what = uapi::op_of(d.op_flags);
        const bool data = what == uapi::op::read || what == uapi::op::write;
        expect(data || what == uapi::op::flush || what == uapi::op::discard ||
                   what == uapi::op::write_zeroes,
               "a request with an operation that nobody asked for");
        expect(!data || ublk::sectors_to_bytes(d.nr_sectors) <= info.max_io_buf_bytes,
               "a request is larger than its buffer");
        const auto address = reinterpret_cast<std::uintptr_t>(mine);
        // With NEED_GET_DATA a tag may do without its buffer.
        expect(d.addr == (copies() ? address : 0) || d.addr == 0,
               "a request names another buffer than the tag's");
    }

    std::size_t descriptor_size_;
    sim::kernel::waker waker_;
    sim::kernel::port port_;
    std::byte* buffers_ = nullptr;
    std::vector<ublk::mapping> descriptors_;
    std::vector<std::pair<unsigned, unsigned>> owned_;
};

class worker {
public:
    explicit worker(sim::world& in) : in_{in} {}
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;

    /// False where it is stuck in an earlier order; it may be in this one afterwards.
    bool order(std::function<void(worker&)> what) {
        sim::scheduler& tasks = in_.on().tasks;
        if (busy_) {
            return false;
        }
        if (task_ == nullptr) {
            task_ = tasks.spawn("a fuzzed thread", [this] { live(); });
        }
        order_ = std::move(what);
        busy_ = true;
        tasks.wake(called_);
        const ublk::deadline until = tasks.now() + std::chrono::milliseconds{20};
        while (busy_ && tasks.block(done_, "an order", until) == sim::wake_up::called) {
        }
        return true;
    }

    /// Requires: its process is dead, so that nothing keeps it.
    void leave() {
        leaving_ = true;
        in_.on().tasks.wake(called_);
        in_.settle();
        if (task_ != nullptr && !task_->ended) {
            wrong("a thread of a dead process is stuck:\n" + in_.on().tasks.describe_waits());
        }
    }

    [[nodiscard]] bool busy() const noexcept { return busy_; }

    std::vector<std::unique_ptr<port_box>> ports;

private:
    void live() {
        while (true) {
            while (!busy_ && !leaving_) {
                (void)in_.on().tasks.block(called_, "an order");
            }
            if (!busy_) {
                break;
            }
            try {
                std::exchange(order_, nullptr)(*this);
            } catch (const ublk::error&) {
                // A port that cannot be made, or descriptors that cannot be mapped.
            }
            busy_ = false;
            in_.on().tasks.wake(done_);
        }
        ports.clear();  // in the thread that made them
    }

    sim::world& in_;
    std::shared_ptr<sim::task> task_;
    std::function<void(worker&)> order_;
    bool busy_ = false;
    bool leaving_ = false;
    sim::wait_list called_;
    sim::wait_list done_;
};

}  // namespace ublk_fuzz
