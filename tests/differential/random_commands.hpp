// SPDX-License-Identifier: MIT
#pragma once

// Control commands in random order with random arguments on up to two devices that never go live:
// whatever comes of them, the host is safe.

#include "making.hpp"

#include <array>
#include <cstdint>
#include <random>
#include <string>

namespace ublk_test::differential {

class command_dice {
public:
    explicit command_dice(std::uint64_t seed)
        : dice_{seed}, made_{"random_commands_" + std::to_string(seed)} {}

    [[nodiscard]] script make() {
        add_device(0);
        for (int i = 0; i < 30; ++i) {
            one(static_cast<int>(below(2)));
        }
        return made_.done();
    }

private:
    enum class life { none, closed, open, deleted };

    [[nodiscard]] std::uint64_t below(std::uint64_t limit) { return dice_() % limit; }
    template <class Value, std::size_t N>
    [[nodiscard]] Value pick(const std::array<Value, N>& some) {
        return some[below(N)];
    }

    void one(int d) {
        life& now = lives_[static_cast<std::size_t>(d)];
        switch (below(16)) {
        case 0:
        case 1:
            if (now == life::none) {
                add_device(d);
            }
            break;
        case 2:
            delete_device(d, now);
            break;
        case 3:
        case 4:
            channel(d, now);
            break;
        case 5:
            made_.call(random_get_params(d));
            break;
        case 6:
        case 7:
            made_.call(random_params(d));
            break;
        case 8:
            made_.call(for_start(d, uapi::ctrl::start_dev), {}, a_while);
            break;
        case 9:
            made_.call(for_start(d, uapi::ctrl::end_user_recovery), {}, a_while);
            break;
        case 10:
            made_.call(affinity(d));
            break;
        case 11:
            made_.call(get_info(d, pick(std::array<std::uint16_t, 4>{64, 64, 63, 100})));
            break;
        default:
            made_.call(ask(pick(std::array{uapi::ctrl::stop_dev, uapi::ctrl::try_stop_dev,
                                           uapi::ctrl::quiesce_dev, uapi::ctrl::update_size,
                                           uapi::ctrl::start_user_recovery, uapi::ctrl::act(0x1e)}),
                           d, below(1000)));
            break;
        }
    }

    void add_device(int d) {
        using namespace feature;
        const std::uint64_t flags = pick(std::array<std::uint64_t, 8>{
            0, user_recovery, user_recovery | user_recovery_reissue, user_recovery_reissue,
            user_copy, need_get_data, zoned | user_copy, user_recovery | quiesce});
        uapi::dev_info info = info_of({.flags = flags});
        info.nr_hw_queues = pick(std::array<std::uint16_t, 5>{1, 1, 2, 0, 5000});
        info.queue_depth = pick(std::array<std::uint16_t, 5>{1, 2, 200, 4096, 0});
        info.max_io_buf_bytes = pick(std::array<std::uint32_t, 4>{4096, 65536, 70000, 1u << 20});
        command c = add(d, info);
        const bool good = info.nr_hw_queues != 0 && info.nr_hw_queues <= 4096 &&
                          info.queue_depth != 0 && flags != user_recovery_reissue;
        made_.call(c, "flags " + std::to_string(flags) + ", queues " +
                          std::to_string(info.nr_hw_queues) + ", depth " +
                          std::to_string(info.queue_depth) + ", buffer " +
                          std::to_string(info.max_io_buf_bytes));
        lives_[static_cast<std::size_t>(d)] = good ? life::closed : life::none;
    }

    /// With its channel open a device stays until that is closed.
    void delete_device(int d, life& now) {
        if (below(3) != 0) {
            return;
        }
        const bool waits = below(2) == 0;
        made_.call(ask(waits ? uapi::ctrl::del_dev : uapi::ctrl::del_dev_async, d), {},
                   now == life::closed ? patience : 1000ms);
        if (now == life::closed) {
            made_.await_gone(d);
            now = life::none;
        } else if (now == life::open) {
            now = life::deleted;
        }
    }

    void channel(int d, life& now) {
        if (now == life::closed) {
            made_.open(d).want("0");
            now = life::open;
        } else if (now == life::open && below(3) != 0) {
            made_.open(d, 50ms).want("EBUSY");
        } else if (now == life::open) {
            made_.close(d);
            now = life::closed;
        } else if (now == life::deleted) {
            made_.close(d).await_gone(d);
            now = life::none;
        }
    }

    [[nodiscard]] command random_get_params(int d) {
        return get_params(d, pick(std::array<std::uint32_t, 6>{0, 8, 40, 100, 152, 200}),
                          pick(std::array<std::uint16_t, 5>{8, 9, 60, 152, 152}));
    }

    [[nodiscard]] command random_params(int d) {
        uapi::params p = params_of({});
        p.types = pick(std::array<std::uint32_t, 6>{1, 1, 1, 3, 2, 5});
        p.basic.logical_bs_shift = pick(std::array<std::uint8_t, 5>{9, 9, 12, 8, 13});
        p.basic.max_sectors = pick(std::array<std::uint32_t, 4>{8, 128, 7, 2048});
        p.basic.dev_sectors = below(100000);
        p.discard.discard_granularity = pick(std::array<std::uint32_t, 3>{0, 512, 4096});
        p.discard.max_discard_sectors = pick(std::array<std::uint32_t, 2>{0, 8});
        p.discard.max_discard_segments = pick(std::array<std::uint16_t, 3>{0, 1, 2});
        p.len = pick(std::array<std::uint32_t, 4>{152, 152, 60, 0});
        return set_params(d, p);
    }

    [[nodiscard]] command for_start(int d, std::uint32_t op) {
        command c = ask(op, d);
        c.pid = pick(std::array{process::none, process::self, process::self, process::another});
        return c;
    }

    [[nodiscard]] command affinity(int d) {
        command c = ask(uapi::ctrl::get_queue_affinity, d, below(3));
        c.len = pick(std::array<std::uint16_t, 4>{8, 64, 4, 0});
        return c;
    }

    std::mt19937_64 dice_;
    making made_;
    std::array<life, 2> lives_{};
};

[[nodiscard]] inline script random_commands(std::uint64_t seed) {
    return command_dice{seed}.make();
}

}  // namespace ublk_test::differential
