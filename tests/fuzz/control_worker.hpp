// SPDX-License-Identifier: MIT
#pragma once

// A thread of a simulated server that does what it is told, one order after the other, whether that
// makes sense or not. It may get stuck in the kernel; nobody waits for it without a limit.

#include "bytes.hpp"

#include <ublk/detail/mapping.hpp>
#include <ublk/error.hpp>
#include <ublk/features.hpp>
#include <ublk/kernel/user_data.hpp>
#include <ublk/sim/batch_wire.hpp>
#include <ublk/sim/world.hpp>
#include <ublk/uapi.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
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

/// What a batch command is to be, right or wrong.
struct batch_shape {
    unsigned queue = 0;
    unsigned fault = 0;                ///< what is wrong with its header; 0: nothing
    std::vector<std::uint8_t> tags{};  ///< of its elements; from 0x80 on without a buffer
    int result = 0;                    ///< what is committed; 0: success in full
};

/// One queue thread's ring, and what it knows of the device.
class port_box {
public:
    static constexpr std::size_t memory_max = std::size_t{1} << 20;

    port_box(const sim::kernel::channel& channel, const uapi::dev_info& granted, bool spaced,
             arena& memory)
        : info{granted}, descriptor_size_{spaced ? granted.io_desc_size : sizeof(uapi::io_desc)},
          port_{channel, wakeup_, needs()} {
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

    void wake() const { wakeup_.wake(); }

    // ------------------------------------------------------------ commands of single tags

    void fetch(unsigned queue, unsigned tag, bool with_buffer) {
        port_.fetch(number(queue), which(tag), address(queue, tag, with_buffer),
                    single(queue, tag));
    }

    void commit(unsigned queue, unsigned tag, int result, bool with_buffer) {
        if (!batches()) {
            std::erase(owned_, std::pair{queue, tag});
        }
        port_.commit(number(queue), which(tag), result, address(queue, tag, with_buffer),
                     single(queue, tag));
    }

    void get_data(unsigned queue, unsigned tag, bool with_buffer) {
        if (!batches()) {
            std::erase(requested_, std::pair{queue, tag});
        }
        port_.get_data(number(queue), which(tag), address(queue, tag, with_buffer).memory,
                       single(queue, tag));
    }

    void register_buffer(unsigned queue, unsigned tag, unsigned place) {
        port_.register_buffer(number(queue), which(tag), static_cast<std::uint16_t>(place));
    }
    void unregister_buffer(unsigned queue, unsigned tag, unsigned place) {
        port_.unregister_buffer(number(queue), which(tag), static_cast<std::uint16_t>(place));
    }

    // ------------------------------------------------------------ batches

    void prepare(const batch_shape& given) {
        const uapi::batch_io header = make(given);
        port_.prepare_tags(header, elements_.back().data(), token_of(kind::prepared, header));
    }

    void commit(const batch_shape& given) {
        const uapi::batch_io header = make(given);
        for (const std::uint8_t tag : given.tags) {
            std::erase(owned_, std::pair{given.queue, tag & 0x7fu});
        }
        port_.commit_tags(header, elements_.back().data(), token_of(kind::committed, header));
    }

    void fetch_tags(unsigned queue) {
        const auto place = static_cast<std::uint16_t>(queue);
        const bool known = batches() && queue < info.nr_hw_queues;
        port_.fetch_tags(number(queue), place,
                         ublk::detail::user_data::batch(kind::fetched, place, known ? 0 : EINVAL));
    }

    // ------------------------------------------------------------ what a right server does

    void fetch_all() {
        for (unsigned q = 0; q < info.nr_hw_queues; ++q) {
            batch_shape all{.queue = q};
            for (unsigned t = 0; t < info.queue_depth; ++t) {
                batches() ? all.tags.push_back(static_cast<std::uint8_t>(t))
                          : fetch(q, t, copies());
            }
            if (batches()) {
                prepare(all);
                fetch_tags(q);
            }
        }
    }

    /// Takes what there is; with `answer` commits all that it has, with 0 for success in full.
    void serve(bool answer, int result) {
        collect();
        for (const auto& [queue, tag] : std::vector{requested_}) {
            if (answer) {
                get_data(queue, tag, true);
            }
        }
        for (const auto& [queue, tag] : std::vector{owned_}) {
            if (answer && batches()) {
                commit(
                    {.queue = queue, .tags = {static_cast<std::uint8_t>(tag)}, .result = result});
            } else if (answer) {
                commit(queue, tag, result != 0 ? result : whole(queue, tag), copies());
            }
        }
        for (const unsigned queue : std::exchange(dry_, {})) {
            fetch_tags(queue);
        }
        (void)port_.flush_and_collect();
    }

    void flush() { (void)port_.flush(); }
    void wait() { (void)port_.wait(1); }

    const uapi::dev_info info;

private:
    using kind = ublk::detail::user_data::batch_kind;
    static constexpr unsigned places = 8;  ///< in the ring's table of buffers

    [[nodiscard]] static ublk::queue_id number(unsigned queue) noexcept {
        return ublk::queue_id{static_cast<std::uint16_t>(queue)};
    }
    [[nodiscard]] static ublk::tag which(unsigned tag) noexcept {
        return ublk::tag{static_cast<std::uint16_t>(tag)};
    }
    [[nodiscard]] bool has(std::uint64_t flags) const noexcept { return (info.flags & flags) != 0; }
    [[nodiscard]] bool batches() const noexcept { return has(uapi::feature::batch_io); }
    [[nodiscard]] bool copies() const noexcept {
        using namespace uapi::feature;
        return !has(user_copy | support_zero_copy | auto_buf_reg);
    }
    [[nodiscard]] bool inside(unsigned queue, unsigned tag) const noexcept {
        return queue < info.nr_hw_queues && tag < info.queue_depth;
    }
    [[nodiscard]] ublk::detail::port_needs needs() const noexcept {
        using namespace uapi::feature;
        return {.tags = unsigned{info.nr_hw_queues} * info.queue_depth,
                .reserved_buffers = has(support_zero_copy | auto_buf_reg) ? places : 0};
    }

    /// Of a command of a single tag: not of an I/O where the driver's batches tell of those.
    [[nodiscard]] ublk::detail::user_data single(unsigned queue, unsigned tag) const noexcept {
        const auto place = static_cast<std::uint16_t>(queue);
        return batches() ? ublk::detail::user_data::batch(kind::queue, place, which(tag).value())
                         : ublk::detail::user_data::io(place, which(tag));
    }

    /// With what its header is to be refused.
    [[nodiscard]] ublk::detail::user_data token_of(kind what,
                                                   const uapi::batch_io& header) const noexcept {
        return ublk::detail::user_data::batch(
            what, header.q_id, static_cast<std::uint16_t>(refusal(header)), header.nr_elem);
    }

    [[nodiscard]] std::byte* buffer(unsigned queue, unsigned tag) const noexcept {
        return buffers_ == nullptr || !inside(queue, tag)
                   ? nullptr
                   : buffers_ +
                         (std::size_t{queue} * info.queue_depth + tag) * info.max_io_buf_bytes;
    }

    [[nodiscard]] ublk::detail::buffer_address address(unsigned queue, unsigned tag,
                                                       bool with_buffer) {
        const uapi::auto_buf_reg place{.index = static_cast<std::uint16_t>(tag),
                                       .flags = uapi::auto_buf_reg_fallback};
        return {.memory = with_buffer && copies()
                              ? reinterpret_cast<std::uintptr_t>(buffer(queue, tag))
                              : std::uintptr_t{with_buffer},
                .registration = has(uapi::feature::auto_buf_reg) ? place.sqe_addr() : 0};
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

    // ------------------------------------------------------------ batches

    [[nodiscard]] std::uint16_t right_flags() const noexcept {
        using namespace uapi::batch_flag;
        return copies()                           ? has_buf_addr
               : has(uapi::feature::auto_buf_reg) ? auto_buf_reg_fallback
                                                  : std::uint16_t{0};
    }

    /// The elements stay until the kernel has read them.
    uapi::batch_io make(const batch_shape& given) {
        using namespace uapi::batch_flag;
        uapi::batch_io header;
        header.q_id = static_cast<std::uint16_t>(given.queue);
        header.nr_elem = static_cast<std::uint16_t>(given.tags.size());
        header.flags = right_flags();
        constexpr std::uint16_t wrong[] = {0, has_zone_lba, has_buf_addr, auto_buf_reg_fallback,
                                           1u << 3};
        if (given.fault < std::size(wrong)) {
            header.flags = static_cast<std::uint16_t>(header.flags ^ wrong[given.fault]);
        }
        header.elem_bytes = uapi::batch_elem_bytes(header.flags);
        const std::size_t each = header.elem_bytes;
        std::vector<std::byte>& to = elements_.emplace_back(each * given.tags.size());
        for (std::size_t i = 0; i < given.tags.size(); ++i) {
            const unsigned tag = given.tags[i] & 0x7fu;
            uapi::elem_header element;
            element.tag = element.buf_index = static_cast<std::uint16_t>(tag);
            element.result = given.result != 0 || !inside(given.queue, tag)
                                 ? given.result
                                 : whole(given.queue, tag);
            std::memcpy(to.data() + i * each, &element, sizeof element);
            if ((header.flags & has_buf_addr) != 0 && given.tags[i] < 0x80) {
                const auto memory = reinterpret_cast<std::uintptr_t>(buffer(given.queue, tag));
                std::memcpy(to.data() + i * each + sizeof element, &memory, sizeof memory);
            }
        }
        if (given.fault == std::size(wrong)) {
            ++header.elem_bytes;
        } else if (given.fault == std::size(wrong) + 1) {
            header.nr_elem = 0xffff;
        }
        return header;
    }

    /// The errno that the driver has for a header, whatever the elements are; 0 for none.
    [[nodiscard]] int refusal(const uapi::batch_io& header) const noexcept {
        using namespace uapi::batch_flag;
        if (!batches() || header.q_id >= info.nr_hw_queues) {
            return EINVAL;
        }
        if (header.nr_elem > info.queue_depth) {
            return E2BIG;
        }
        const unsigned possible =
            (copies() ? unsigned{has_buf_addr} : 0u) |
            (has(uapi::feature::auto_buf_reg) ? unsigned{auto_buf_reg_fallback} : 0u) |
            (has(uapi::feature::zoned) ? unsigned{has_zone_lba} : 0u);
        const bool fine = (header.flags & ~possible) == 0 &&
                          header.elem_bytes == uapi::batch_elem_bytes(header.flags);
        return fine ? 0 : EINVAL;
    }

    // ------------------------------------------------------------ events

    void collect() {
        (void)port_.flush_and_collect();
        if (batches()) {
            port_.drain([this](ublk::detail::user_data t, int code, std::uint32_t event) {
                take(t, code);
                if (t.kind() == kind::fetched) {
                    take_tags(t, code, event);
                }
            });
        } else {
            static_cast<sim::kernel::port&>(port_).drain(
                [this](ublk::detail::user_data t, int code) { take(t, code); });
        }
        elements_.clear();
    }

    void take(ublk::detail::user_data t, int code) {
        if (t == ublk::detail::user_data::wake()) {
            expect(code == 1, "a wake-up has another result");
        } else if (t == ublk::detail::user_data::nobody()) {
            expect(code == -EINVAL || code == -EBUSY, "a buffer is refused with another errno");
        } else if (t.is_io()) {
            take_single(t.queue_index(), t.tag().value(), code);
        } else if (t.kind() == kind::queue) {
            expect(code == (inside(t.queue_index(), t.first()) ? -EOPNOTSUPP : -EINVAL),
                   "a device with batches takes a command of a single tag");
        } else if (t.first() != 0) {
            expect(code == -int{t.first()}, "a wrong batch is not refused as such");
        } else if (t.kind() == kind::prepared) {
            expect(code == 0 || code == -EINVAL || code == -EBUSY || code == uapi::io_res_abort,
                   "PREP_IO_CMDS has another answer");
        } else if (t.kind() == kind::committed) {
            const int most = t.count() * 24;  // of the largest kind
            expect(code == -EINVAL || code == -EBUSY || (code >= 0 && code <= most),
                   "COMMIT_IO_CMDS has another answer");
            expect(code != 0 || t.count() == 0, "COMMIT_IO_CMDS does nothing");
        }
    }

    void take_single(unsigned queue, unsigned tag, int code) {
        const bool refused = code == -EINVAL || code == -EBUSY || code == uapi::io_res_abort;
        if (code == uapi::io_res_ok) {
            take_request(queue, tag);
        } else if (code == uapi::io_res_need_get_data) {
            expect(has(uapi::feature::need_get_data), "NEED_GET_DATA, though nobody asked for it");
            requested_.emplace_back(queue, tag);
        } else if (!refused) {
            wrong("a command is answered with " + std::to_string(code));
        }
    }

    void take_tags(ublk::detail::user_data t, int code, std::uint32_t event) {
        if (code > 0) {
            for (const std::uint16_t tag : port_.tags(t.queue_index(), code, event)) {
                take_request(t.queue_index(), tag);
            }
        }
        if (!sim::kernel::batch_wire::goes_on(event) && code == -ENOBUFS) {
            dry_.push_back(t.queue_index());
        } else if (code <= 0 && t.first() == 0) {
            expect(code == uapi::io_res_abort, "FETCH_IO_CMDS ends with another errno");
        }
        port_.give_back(t.queue_index(), code, event);
    }

    void take_request(unsigned queue, unsigned tag) {
        expect(inside(queue, tag), "a request with a tag that does not exist");
        const std::pair mine{queue, tag};
        expect(std::find(owned_.begin(), owned_.end(), mine) == owned_.end(),
               "a request comes with a tag that the server has");
        check(descriptor(queue, tag), buffer(queue, tag), tag);
        owned_.push_back(mine);
    }

    void check(const uapi::io_desc& d, const std::byte* mine, unsigned tag) const {
        const uapi::op what = uapi::op_of(d.op_flags);
        const bool data = what == uapi::op::read || what == uapi::op::write;
        expect(data || what == uapi::op::flush || what == uapi::op::discard ||
                   what == uapi::op::write_zeroes,
               "a request with an operation that nobody asked for");
        expect(!data || ublk::sectors_to_bytes(d.nr_sectors) <= info.max_io_buf_bytes,
               "a request is larger than its buffer");
        if (has(uapi::feature::auto_buf_reg)) {
            const std::uint64_t place =
                uapi::auto_buf_reg{.index = static_cast<std::uint16_t>(tag)}.sqe_addr();
            expect((d.addr & 0xffff) == place, "a request names another place than the tag's");
            return;
        }
        const auto address = reinterpret_cast<std::uintptr_t>(mine);
        // With NEED_GET_DATA a tag may do without its buffer.
        expect(d.addr == (copies() ? address : 0) || d.addr == 0,
               "a request names another buffer than the tag's");
    }

    std::size_t descriptor_size_;
    sim::kernel::wakeup wakeup_;
    sim::kernel::batch_wire port_;
    std::byte* buffers_ = nullptr;
    std::vector<ublk::detail::mapping> descriptors_;
    std::vector<std::pair<unsigned, unsigned>> owned_;
    std::vector<std::pair<unsigned, unsigned>> requested_;  ///< for the place of their bytes
    std::vector<unsigned> dry_;                             ///< queues to be fetched from again
    std::deque<std::vector<std::byte>> elements_;
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
        const ublk::detail::deadline until = tasks.now() + std::chrono::milliseconds{20};
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
