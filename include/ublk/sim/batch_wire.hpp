// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/kernel.hpp>
#include <ublk/sim/seam.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace ublk::inline v0::sim {

/// The driver's batch commands: each is carried out element by element, and what the driver says of
/// single tags is gathered into events of many. As on the real one, whoever does not fetch hears of
/// no request, and an event without another to come ends the fetching.
class kernel::batch_wire : public kernel::port {
public:
    batch_wire(const channel& device, const wakeup& wakeup, const port_needs& needs)
        : port{device, wakeup, needs} {}

    [[gnu::noinline]] void prepare_tags(const uapi::batch_io& command, const void* elements,
                                        user_data ud) noexcept {
        put_batch(uapi::io::prep_io_cmds, command, elements, ud);
    }
    [[gnu::noinline]] void commit_tags(const uapi::batch_io& command, const void* elements,
                                       user_data ud) noexcept {
        put_batch(uapi::io::commit_io_cmds, command, elements, ud);
    }
    [[gnu::noinline]] void commit_single(const uapi::batch_io& command, const void* element,
                                         user_data ud) noexcept {
        put_batch(uapi::io::commit_io_cmds, command, element, ud, true);
    }
    [[gnu::noinline]] void fetch_tags(queue_id queue, std::uint16_t, user_data ud) noexcept {
        put({.type = queued_entry::kind::fetch_batches, .command = {.queue = queue, .ud = ud}});
    }

    [[nodiscard]] std::span<const std::uint16_t> tags(std::uint16_t, int, std::uint32_t) noexcept {
        return told_;
    }
    void give_back(std::uint16_t, int, std::uint32_t) noexcept { told_.clear(); }
    [[nodiscard]] static bool goes_on(std::uint32_t event) noexcept { return event == more; }

    [[gnu::noinline]] int wait(unsigned events) noexcept { return enter(true, true, events); }

    template <class Consume>
    void drain(Consume&& consume) noexcept {
        std::size_t seen = 0;
        completion_event event{user_data{0}, 0};
        while (next(seen, event)) {
            if (!event.ud.is_io()) {
                consume(event.ud, event.result, 0u);
                continue;
            }
            lane& l = lanes_[event.ud.queue_index()];
            if (!l.fetches) {
                l.held.push_back(event);
            } else if (event.result < 0) {
                l.fetches = false;
                consume(l.ud, event.result, 0u);
            } else if (dice().chance(dry)) {
                l.fetches = false;
                l.held.push_back(event);
                consume(l.ud, -ENOBUFS, 0u);
            } else {
                gather(seen, event);
                consume(l.ud, static_cast<int>(told_.size() * sizeof(std::uint16_t)), more);
            }
        }
        advance(seen);
    }

private:
    static constexpr std::uint32_t more = 1;
    static constexpr std::uint32_t dry = 40;  ///< one event in so many finds no buffer

    struct lane {
        bool fetches = false;
        user_data ud{0};
        std::deque<completion_event> held{};
    };

    [[nodiscard]] random& dice() noexcept { return in_.on().dice; }

    void put_batch(std::uint32_t op, const uapi::batch_io& command, const void* elements,
                   user_data ud, bool quiet = false) noexcept {
        put({.type = queued_entry::kind::batch,
             .command = {.op = op, .queue = queue_id{command.q_id}, .ud = ud},
             .batch = command,
             .quiet = quiet,
             .elements = static_cast<const std::byte*>(elements)});
    }

    /// This event and what follows of the same queue.
    void gather(std::size_t& seen, const completion_event& first) {
        told_.assign(1, first.ud.tag().value());
        completion_event event{user_data{0}, 0};
        std::size_t ahead = seen;
        while (told_.size() < uapi::max_batch_tags && !dice().chance(8) && next(ahead, event) &&
               event.ud.is_io() && event.ud.queue_index() == first.ud.queue_index() &&
               event.result == 0) {
            told_.push_back(event.ud.tag().value());
            seen = ahead;
        }
    }

    int take(const queued_entry& each) override {
        if (each.type == queued_entry::kind::fetch_batches) {
            if (!batches() || each.command.queue.value() >= device_->queues.size()) {
                return -EINVAL;
            }
            lane& l = lanes_[each.command.ud.queue_index()];
            l.fetches = true;
            l.ud = each.command.ud;
            for (const completion_event& kept : std::exchange(l.held, {})) {
                ring_.post(kept.ud, kept.result);
            }
            return 0;
        }
        if (each.type != queued_entry::kind::batch) {
            return port::take(each);
        }
        if (const int answer = carry_out(each); answer < 0 || !each.quiet) {
            ring_.post(each.command.ud, answer);
        }
        return 0;
    }

    [[nodiscard]] bool batches() const noexcept { return device_->has(uapi::feature::batch_io); }

    /// What the driver says of a command before it looks at its elements (ublk_check_batch_cmd): 0
    /// or -errno.
    [[nodiscard]] int check(const uapi::batch_io& c) const noexcept {
        using namespace uapi::batch_flag;
        constexpr std::uint16_t known = has_zone_lba | has_buf_addr | auto_buf_reg_fallback;
        const auto flag = [&c](std::uint16_t one) { return (c.flags & one) != 0; };
        if (!batches() || c.q_id >= device_->queues.size()) {
            return -EINVAL;
        }
        if (c.nr_elem > device_->info.queue_depth) {
            return -E2BIG;
        }
        const bool misplaced = (flag(has_zone_lba) && !device_->has(uapi::feature::zoned)) ||
                               (flag(has_buf_addr) && !device_->copies()) ||
                               (flag(auto_buf_reg_fallback) &&
                                (!device_->has(uapi::feature::auto_buf_reg) || flag(has_buf_addr)));
        return misplaced || (c.flags & ~known) != 0 ||
                       c.elem_bytes != uapi::batch_elem_bytes(c.flags)
                   ? -EINVAL
                   : 0;
    }

    /// What the command answers: 0 for tags given to the driver, else how many bytes it took in.
    [[nodiscard]] int carry_out(const queued_entry& each) {
        if (const int code = check(each.batch); code != 0) {
            return code;
        }
        const bool commits = each.command.op == uapi::io::commit_io_cmds;
        std::size_t most = each.batch.nr_elem;
        if (commits && most > 1 && dice().chance(in_.on().is.often.short_submit)) {
            most = 1 + dice().below(most - 1);
        }
        for (std::size_t i = 0; i < most; ++i) {
            const int code = device_->carry_out(ring_, element(each, i));
            if (code == 0) {
                continue;
            }
            for (std::size_t taken = 0; taken < i && !commits; ++taken) {
                device_->give_back(element(each, taken));
            }
            return commits && i != 0 ? bytes(each, i) : code;
        }
        return commits ? bytes(each, most) : 0;
    }

    [[nodiscard]] static int bytes(const queued_entry& each, std::size_t elements) noexcept {
        return static_cast<int>(elements * each.batch.elem_bytes);
    }

    [[nodiscard]] io_command element(const queued_entry& each, std::size_t number) const {
        const std::byte* const at = each.elements + number * each.batch.elem_bytes;
        uapi::elem_header header;
        std::memcpy(&header, at, sizeof header);
        io_command single = each.command;
        single.t = tag{header.tag};
        single.result = header.result;
        single.ud = user_data::io(each.command.ud.queue_index(), single.t);
        if ((each.batch.flags & uapi::batch_flag::has_buf_addr) != 0) {
            std::memcpy(&single.address, at + sizeof header, sizeof single.address);
        }
        if (device_->has(uapi::feature::auto_buf_reg)) {
            const bool falls_back =
                (each.batch.flags & uapi::batch_flag::auto_buf_reg_fallback) != 0;
            single.registration = uapi::auto_buf_reg{
                .index = header.buf_index,
                .flags = falls_back
                             ? uapi::auto_buf_reg_fallback
                             : std::uint8_t{
                                   0}}.sqe_addr();
        }
        return single;
    }

    std::map<std::uint16_t, lane> lanes_;
    std::vector<std::uint16_t> told_;
};

}  // namespace ublk::inline v0::sim
