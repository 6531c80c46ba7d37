// SPDX-License-Identifier: MIT
#pragma once

// Requests in random order with random results, and servers that stop or die meanwhile. Each
// request is seen before the next one is made, and at most one outlives its server, so that the
// block layer has no choice to make.

#include "making.hpp"

#include <array>
#include <cerrno>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace ublk_test::differential {

class request_dice {
public:
    /// With ends of servers it is not for drivers before 7.3, see scripts.hpp.
    request_dice(std::uint64_t seed, bool ends)
        : dice_{seed}, ends_{ends}, made_{(ends ? "random_servers_" : "random_requests_") +
                                          std::to_string(seed)} {
        shape_.depth = static_cast<std::uint16_t>(1 + below(4));
        shape_.trims = true;
        shape_.attrs = uapi::attr::volatile_cache;
        if (ends) {
            made_.since(7, 3);
            shape_.flags = recoveries[below(recoveries.size())];
        }
    }

    [[nodiscard]] script make() {
        made_.live(shape_).opened(file_);
        for (int round = 0; round < 12; ++round) {
            ask_some();
            const std::uint64_t end = below(8);
            if (end < 3 && ends_) {
                below(3) == 0 ? stop() : die();
            } else {
                answer_all(0);
            }
        }
        made_.call(ask(uapi::ctrl::stop_dev, 0)).want("0");
        made_.drain(0, shape_.depth).want(std::to_string(shape_.depth) + " times ENODEV");
        return made_.done();
    }

private:
    struct requested {
        unsigned deed;
        unsigned request;
        client_action action;
        std::uint32_t sectors;
    };

    static constexpr std::array<std::uint64_t, 4> recoveries{
        0, feature::user_recovery, feature::user_recovery | feature::user_recovery_reissue,
        feature::user_recovery | feature::user_recovery_fail_io};

    [[nodiscard]] std::uint64_t below(std::uint64_t limit) { return dice_() % limit; }

    [[nodiscard]] client_action any(bool alone) {
        static constexpr std::array kinds{deed::read,    deed::read,     deed::write,
                                          deed::discard, deed::zero_out, deed::flush};
        const deed kind = kinds[below(alone ? kinds.size() : 3)];
        if (kind == deed::flush) {
            return io(kind, 0, 0, 0, file_);
        }
        if (kind == deed::discard) {  // in line with its granularity
            return io(kind, 8 * below(200), static_cast<std::uint32_t>(8 * (1 + below(30))), 0,
                      file_);
        }
        // Short enough for one request, wherever it begins in a physical block.
        return io(kind, below(1900), static_cast<std::uint32_t>(1 + below(120)),
                  static_cast<std::uint8_t>(below(256)), file_);
    }

    /// At most one deed at a time that is neither read nor write: the block layer makes one flush
    /// of several, and trims wait for each other.
    void ask_some() {
        const std::uint64_t some = 1 + below(shape_.depth);
        bool special = false;
        for (std::uint64_t i = 0; i < some; ++i) {
            const client_action a = any(!special);
            special = special || (a.kind != deed::read && a.kind != deed::write);
            ++number_;
            made_.client(number_, a).expect(0, number_).want("q0 ");
            open_.push_back({number_, number_, a, a.sectors});
        }
    }

    /// In any order, until only so many are left.
    void answer_all(std::size_t rest) {
        while (open_.size() > rest) {
            const auto chosen = open_.begin() + static_cast<std::ptrdiff_t>(below(open_.size()));
            requested a = *chosen;
            open_.erase(chosen);
            answer(a);
        }
    }

    void answer(requested a) {
        static constexpr std::array codes{EIO, ENOSPC, ETIMEDOUT, ENODATA};
        while (!stopping_ && a.action.kind == deed::read && a.sectors > 1 && below(4) == 0) {
            const auto part = static_cast<std::uint32_t>(1 + below(a.sectors - 1));
            made_.commit(0, a.request, static_cast<int>(part * 512),
                         static_cast<std::uint8_t>(below(256)));
            a.sectors -= part;
            a.request = ++number_;
            made_.expect(0, a.request).want("q0 READ");
        }
        if (below(5) == 0) {
            const int code = codes[below(codes.size())];
            made_.commit(0, a.request, -code).await(a.deed).want(name_of(-code));
            return;
        }
        const bool data = a.action.kind == deed::read || a.action.kind == deed::write;
        made_.commit(0, a.request, data ? static_cast<int>(a.sectors * 512) : 0,
                     static_cast<std::uint8_t>(below(256)));
        made_.await(a.deed).want("0");
    }

    void close_file() {
        ++number_;
        made_.client(number_, io(deed::close, 0, 0, 0, file_)).await(number_).want("0");
    }

    void stop() {
        ++number_;
        const unsigned stopping = number_;
        made_.begin(stopping, ask(uapi::ctrl::stop_dev, 0)).finish(stopping, a_while);
        made_.want("pending");
        stopping_ = true;  // a rest of a read would find no queue
        answer_all(0);
        stopping_ = false;
        made_.finish(stopping).want("0").drain(0, shape_.depth);
        close_file();
        made_.close_port(0).close(0).attached(shape_).started().opened(++file_);
    }

    void die() {
        answer_all(below(2));
        made_.die(0);
        const bool reissues = (shape_.flags & feature::user_recovery_reissue) != 0;
        if (!open_.empty()) {
            made_.await(open_[0].deed, reissues ? a_while : patience);
            made_.want(reissues ? "pending" : "EIO");
        }
        if (shape_.flags == 0) {
            made_.await_state(0, uapi::dev_state::dead);
            close_file();
            made_.attached(shape_).started().opened(++file_);
        } else {
            made_.await_state(0, (shape_.flags & feature::user_recovery_fail_io) != 0
                                     ? uapi::dev_state::fail_io
                                     : uapi::dev_state::quiesced);
            made_.call(again(ask(uapi::ctrl::start_user_recovery, 0), EBUSY)).want("0");
            made_.attached(shape_);
            made_.call(for_process(uapi::ctrl::end_user_recovery, 0)).want("0");
        }
        if (!open_.empty() && reissues) {
            open_[0].request = ++number_;
            made_.expect(0, number_).want("q0 ");
            answer_all(0);
        }
        open_.clear();
    }

    std::mt19937_64 dice_;
    bool ends_;
    making made_;
    shape shape_;
    std::vector<requested> open_;
    unsigned number_ = 0;
    bool stopping_ = false;
    unsigned file_ = 1;
};

[[nodiscard]] inline script random_requests(std::uint64_t seed, bool ends) {
    return request_dice{seed, ends}.make();
}

}  // namespace ublk_test::differential
