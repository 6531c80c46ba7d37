// SPDX-License-Identifier: MIT
#pragma once

// The client of a simulated disk: what the file of a block device adds to the block layer, which is
// all that the simulator has.

#include "player.hpp"

#include <ublk/sim/client.hpp>
#include <ublk/sim/kernel.hpp>
#include <ublk/sim/world.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace ublk_test::differential {

class sim_client {
public:
    explicit sim_client(ublk::sim::world& in) : in_{&in} {}

    void begin(unsigned number, const client_action& action, std::uint32_t device) {
        const auto made = std::make_shared<std::optional<client_outcome>>();
        auto& opened = files_[action.file];
        if (opens(action.kind) || !opened) {
            opened = std::make_shared<file>();
        }
        (void)in_->on().tasks.spawn("client", [in = in_, made, action, device, mine = opened] {
            *made = carry_out(*in, *mine, action, device);
        });
        outcomes_[number] = made;
    }

    [[nodiscard]] std::optional<client_outcome> poll(unsigned number) {
        return *outcomes_.at(number);
    }

private:
    using uapi_op = ublk::uapi::op;

    struct file {
        std::unique_ptr<ublk::sim::client> disk;
        ublk::sim::device_ptr device;
        bool cached = false;
        const void* generation = nullptr;  // the disk of that device which was opened

        /// A disk that is gone has no sectors any more.
        [[nodiscard]] std::uint64_t capacity() const {
            const bool there = device->live.get() == generation && device->live->is_open();
            return there ? disk->limits().capacity : 0;
        }
    };

    [[nodiscard]] static client_outcome carry_out(ublk::sim::world& in, file& f,
                                                  const client_action& a, std::uint32_t device) {
        if (opens(a.kind)) {
            f.cached = a.kind == deed::open_cached;
            return open(in, f, device);
        }
        if (!f.disk) {
            return {EBADF, {}};
        }
        switch (a.kind) {
        case deed::close:
            f.disk.reset();
            return {};
        case deed::read:
            return read(in, f, a);
        case deed::write:
            return write(in, f, a, 0);
        case deed::durable_write: {
            const client_outcome written = write(in, f, a, ublk::uapi::io_flag::fua);
            return written.code != 0 ? written : flush(in, f, a);
        }
        case deed::flush:
            return flush(in, f, a);
        case deed::discard:
            return {discard(in, f, a), {}};
        case deed::punch_hole:
            return {carry(in, f, a, uapi_op::write_zeroes, 0, nullptr), {}};
        default:
            return zero_out(in, f, a);
        }
    }

    [[nodiscard]] static client_outcome open(ublk::sim::world& in, file& f, std::uint32_t device) {
        f.device = in.ublk_drv().life.find(device);
        if (f.device == nullptr || f.device->live == nullptr) {
            return {ENOENT, {}};
        }
        try {
            f.disk = std::make_unique<ublk::sim::client>(in, device);
        } catch (const ublk::error& refused) {
            return {refused.errno_value(), {}};
        }
        f.generation = f.device->live.get();
        return {};
    }

    [[nodiscard]] static client_outcome read(ublk::sim::world& in, file& f,
                                             const client_action& a) {
        client_action within = a;
        const std::uint64_t end = std::max(f.capacity(), a.sector);
        within.sectors =
            static_cast<std::uint32_t>(std::min<std::uint64_t>(a.sectors, end - a.sector));
        if (within.sectors == 0) {
            return {};
        }
        client_outcome outcome;
        outcome.data.assign(std::size_t{within.sectors} * 512, std::byte{0xee});
        outcome.code = carry(in, f, within, uapi_op::read, 0, outcome.data.data());
        if (outcome.code != 0) {
            outcome.data.clear();
        }
        return outcome;
    }

    [[nodiscard]] static client_outcome write(ublk::sim::world& in, file& f, const client_action& a,
                                              std::uint32_t flags) {
        std::vector<std::byte> data(std::size_t{a.sectors} * 512, std::byte{a.fill});
        if (f.cached) {
            f.disk->write_dirty(a.sector * 512, data);
            return {};
        }
        return {carry(in, f, a, uapi_op::write, flags, data.data()), {}};
    }

    [[nodiscard]] static client_outcome flush(ublk::sim::world& in, file& f,
                                              const client_action& a) {
        return {carry(in, f, a, uapi_op::flush, 0, nullptr), {}};
    }

    // Two bios, where it begins out of line with the granularity; see making.hpp for that.
    [[nodiscard]] static int discard(ublk::sim::world& in, file& f, const client_action& a) {
        constexpr std::uint32_t granularity = 8;
        const auto ahead =
            static_cast<std::uint32_t>((granularity - a.sector % granularity) % granularity);
        client_action first = a;
        client_action second = a;
        first.sectors = std::min(ahead, a.sectors);
        second.sector += first.sectors;
        second.sectors -= first.sectors;
        const int code = first.sectors == 0 ? 0 : carry(in, f, first, uapi_op::discard, 0, nullptr);
        return code != 0 || second.sectors == 0
                   ? code
                   : carry(in, f, second, uapi_op::discard, 0, nullptr);
    }

    // Zeroes are written where they cannot be asked for.
    [[nodiscard]] static client_outcome zero_out(ublk::sim::world& in, file& f,
                                                 const client_action& a) {
        const int code =
            carry(in, f, a, uapi_op::write_zeroes, ublk::uapi::io_flag::nounmap, nullptr);
        if (code != EOPNOTSUPP) {
            return {code, {}};
        }
        client_action zeroes = a;
        zeroes.fill = 0;
        return write(in, f, zeroes, 0);
    }

    [[nodiscard]] static int carry(ublk::sim::world& in, file& f, const client_action& a,
                                   uapi_op op, std::uint32_t flags, std::byte* data) {
        const auto b = std::make_unique<ublk::sim::bio>();
        b->op = op;
        b->sector = op == uapi_op::flush ? 0 : a.sector;
        b->sectors = op == uapi_op::flush ? 0 : a.sectors;
        b->flags = flags;
        b->data = data;
        b->cpu = a.cpu < 0 ? 0 : static_cast<unsigned>(a.cpu);
        f.disk->submit(*b);
        while (!b->done) {
            (void)in.on().tasks.block(b->waiting, "a client's deed");
        }
        return b->error;
    }

    ublk::sim::world* in_;
    std::map<unsigned, std::shared_ptr<file>> files_;
    std::map<unsigned, std::shared_ptr<std::optional<client_outcome>>> outcomes_;
};

static_assert(clients<sim_client>);

/// Plays a script in a world of its own that is like this machine.
[[nodiscard]] inline transcript play_simulated(const script& played, std::uint64_t seed,
                                               ublk::kernel_version version, unsigned cpus) {
    ublk::sim::conditions given;
    given.seed = seed;
    given.version = version;
    given.cpus = cpus;
    given.strict = false;  // scripts do on purpose what a server must not
    const auto in = std::make_unique<ublk::sim::world>(given);
    return play(played, in->boot(), sim_client{*in});
}

}  // namespace ublk_test::differential
