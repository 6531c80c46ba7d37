// SPDX-License-Identifier: MIT
#pragma once

#include <ublk/sim/client.hpp>
#include <ublk/sim/model.hpp>
#include <ublk/sim/seam.hpp>
#include <ublk/sim/words.hpp>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace ublk::inline v0::sim {

/// What clients do with a disk. Chances are one in so many; 0 for never.
struct habits {
    unsigned submitters = 3;
    unsigned in_flight = 8;         ///< requests of each at a time
    std::uint64_t requests = 1000;  ///< of each
    std::uint32_t blocks_max = 16;  ///< of a read or a write
    std::uint32_t writes = 2;
    std::uint32_t flushes = 20;
    std::uint32_t discards = 40;
    std::uint32_t zeroes = 40;
    std::uint32_t fua = 10;     ///< of the writes
    bool bears_errors = false;  ///< an errno is an answer like any other
    bool remembers = true;      ///< what is read is compared with what was written
    std::uint64_t region = 0;   ///< blocks at the begin of the disk that are used; 0: all that
                                ///< the model knows
};

/// Clients that read and write at random, several at once, and compare every answer with a model of
/// the disk. What no correct disk answers is a violation of the world.
class workload {
public:
    workload(world& in, std::uint32_t id, model& expected, const habits& given)
        : in_{in}, disk_{in, id}, expected_{expected}, is_{given},
          window_{given.region == 0 ? expected.window() : expected.window().begin(given.region)} {
        is_.blocks_max = static_cast<std::uint32_t>(
            std::min<std::uint64_t>(is_.blocks_max, window_.ranges().front().blocks));
        const disk_limits& limits = disk_.limits();
        is_.writes = limits.read_only ? 0 : is_.writes;
        is_.discards = limits.read_only || limits.max_discard == 0 ? 0 : is_.discards;
        is_.zeroes = limits.read_only || limits.max_write_zeroes == 0 ? 0 : is_.zeroes;
    }
    workload(const workload&) = delete;
    workload& operator=(const workload&) = delete;

    /// Begins in the background.
    void start() {
        for (unsigned i = 0; i < is_.submitters; ++i) {
            ++at_work_;
            (void)in_.on().tasks.spawn("client", [this, i] {
                submit_all(i);
                if (--at_work_ == 0) {
                    in_.on().tasks.wake(finished_);
                }
            });
        }
    }

    /// Until every request is answered.
    void finish() {
        while (at_work_ != 0) {
            (void)in_.on().tasks.block(finished_, "the clients");
        }
    }

    void run() {
        start();
        finish();
    }

    /// Submitters begin nothing new.
    void hush() noexcept { hushed_ = true; }

    /// Reads all that it uses once and compares.
    void read_all() {
        for (const disk_window::range& each : window_.ranges()) {
            read_all(each.first, each.first + each.blocks);
        }
    }

    [[nodiscard]] std::uint64_t answered() const noexcept { return answered_; }
    [[nodiscard]] std::uint64_t failed() const noexcept { return failed_; }

private:
    void read_all(std::uint64_t block, std::uint64_t end) {
        std::vector<std::byte> data(is_.blocks_max * disk_.block_size());
        while (block < end && in_.on().blameless()) {
            const auto blocks =
                static_cast<std::uint32_t>(std::min<std::uint64_t>(is_.blocks_max, end - block));
            const std::span<std::byte> part{data.data(), blocks * disk_.block_size()};
            const io intent{uapi::op::read, block, blocks, false};
            const model::ticket ticket = expected_.begin(intent, part);
            judge(ticket, intent, disk_.read(block * disk_.block_size(), part), part);
            block += blocks;
        }
    }

    struct order {
        io intent;
        bio block_io;
        model::ticket ticket = 0;
        std::vector<std::byte> data;
        bool busy = false;
    };

    void submit_all(unsigned number) {
        std::deque<order> flags(is_.in_flight);
        wait_list answers;
        std::uint64_t issued = 0;
        std::size_t busy = 0;
        while (busy != 0 || (issued < is_.requests && !hushed_)) {
            for (order& each : flags) {
                if (!each.busy && issued < is_.requests && !hushed_) {
                    each.block_io.cpu = number + static_cast<unsigned>(in_.dice().below(2));
                    each.block_io.also = &answers;
                    issue(each);
                    ++issued;
                    ++busy;
                }
            }
            busy -= collect(flags);
            if (busy == flags.size() || (busy != 0 && (issued == is_.requests || hushed_))) {
                wait_for_one(flags, answers);
                busy -= collect(flags);
            }
            if (!in_.on().blameless()) {
                hushed_ = true;  // one violation tells enough
            }
        }
    }

    void wait_for_one(std::deque<order>& flags, wait_list& answers) {
        scheduler& tasks = in_.on().tasks;
        const auto answered = [](const order& each) { return each.busy && each.block_io.done; };
        const deadline until = tasks.now() + client::patience;
        while (std::none_of(flags.begin(), flags.end(), answered)) {
            const wake_up cause = tasks.block(answers, "answers to its requests", until, true);
            if (cause == wake_up::called) {
                continue;
            }
            for (order& each : flags) {
                if (each.busy && !each.block_io.done) {
                    disk_.give_up(each.block_io, cause);
                    each.block_io.error = ETIMEDOUT;
                    each.block_io.done = true;
                }
            }
        }
    }

    std::size_t collect(std::deque<order>& flags) {
        std::size_t n = 0;
        for (order& each : flags) {
            if (each.busy && each.block_io.done) {
                each.busy = false;
                ++n;
                judge(each.ticket, each.intent, each.block_io.error, each.data);
            }
        }
        return n;
    }

    void issue(order& o) {
        o.intent = invent();
        const bool data = o.intent.op == uapi::op::read || o.intent.op == uapi::op::write;
        o.data.resize(data ? std::size_t{o.intent.blocks} * disk_.block_size() : 0);
        o.ticket = expected_.begin(o.intent, o.data);
        const std::uint32_t sectors = disk_.limits().logical_block;
        o.block_io.op = o.intent.op;
        o.block_io.sector = o.intent.block * sectors;
        o.block_io.sectors = std::uint64_t{o.intent.blocks} * sectors;
        o.block_io.flags = o.intent.fua ? uapi::io_flag::fua : 0;
        o.block_io.data = o.data.data();
        o.busy = true;
        disk_.submit(o.block_io);
    }

    [[nodiscard]] io invent() {
        random& dice = in_.dice();
        io intent;
        if (dice.chance(is_.flushes)) {
            intent.op = uapi::op::flush;
            return intent;
        }
        if (dice.chance(is_.discards)) {
            intent.op = uapi::op::discard;
        } else if (dice.chance(is_.zeroes)) {
            intent.op = uapi::op::write_zeroes;
        } else if (dice.chance(is_.writes)) {
            intent.op = uapi::op::write;
            intent.fua = dice.chance(is_.fua);
        }
        const std::uint64_t most = dice.chance(3) ? is_.blocks_max : std::min(is_.blocks_max, 4u);
        intent.blocks = static_cast<std::uint32_t>(1 + dice.below(most));
        intent.block =
            window_.place(dice.below(window_.blocks() - intent.blocks + 1), intent.blocks);
        return intent;
    }

    void judge(model::ticket ticket, const io& intent, int error, std::span<const std::byte> data) {
        ++answered_;
        failed_ += error != 0 ? 1 : 0;
        const std::string complaint = expected_.end(ticket, error, data);
        if (!complaint.empty() && is_.remembers) {
            in_.on().violation(complaint);
        }
        if (error != 0 && !is_.bears_errors) {
            in_.on().violation(in_words(intent.op, intent.block * disk_.block_size(),
                                        std::uint64_t{intent.blocks} * disk_.block_size(),
                                        intent.fua) +
                               ": the client gets " + errno_in_words(error));
        }
    }

    world& in_;
    client disk_;
    model& expected_;
    habits is_;
    disk_window window_;
    std::uint64_t answered_ = 0;
    std::uint64_t failed_ = 0;
    unsigned at_work_ = 0;
    bool hushed_ = false;
    wait_list finished_;
};

}  // namespace ublk::inline v0::sim
