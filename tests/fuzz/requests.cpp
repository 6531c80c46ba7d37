// SPDX-License-Identifier: MIT
// A whole disk on the simulated driver: clients' requests, servers that are stopped, killed and
// started again, power cuts, and a kernel in which something goes wrong, all as the input says.
// Every answer is compared with a model of the disk.
#include "bytes.hpp"

#include <ublk/backends/memory.hpp>
#include <ublk/batch_policy/each.hpp>
#include <ublk/batch_policy/per_wakeup.hpp>
#include <ublk/batch_policy/up_to.hpp>
#include <ublk/control.hpp>
#include <ublk/device.hpp>
#include <ublk/queue_policy/per_cpu.hpp>
#include <ublk/queue_policy/shared.hpp>
#include <ublk/sim/cached_disk.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/kernel.hpp>
#include <ublk/sim/medium.hpp>
#include <ublk/sim/model.hpp>
#include <ublk/sim/world.hpp>

#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <deque>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace sim = ublk::sim;
namespace flag = ublk::uapi::io_flag;
using namespace std::chrono_literals;
using ublk::uapi::op;
using ublk_fuzz::bytes;
using ublk_fuzz::expect;
using ublk_fuzz::wrong;

// ---------------------------------------------------------------- servers

/// A device of any composition.
class server {
public:
    virtual ~server() = default;
    virtual void start() = 0;
    virtual void stop() = 0;
    [[nodiscard]] virtual ublk::device_state state() const = 0;
    [[nodiscard]] virtual std::uint32_t id() const = 0;
};

template <class Backend, class QueuePolicy, class BatchPolicy>
class server_of final : public server {
public:
    server_of(std::shared_ptr<Backend> store, const ublk::options& asked, sim::kernel as)
        : device_{std::move(store), asked, as} {}

    void start() override { device_.start(); }
    void stop() override { device_.stop(); }
    [[nodiscard]] ublk::device_state state() const override { return device_.state(); }
    [[nodiscard]] std::uint32_t id() const override { return device_.id(); }

private:
    ublk::device<Backend, QueuePolicy, BatchPolicy, sim::kernel> device_;
};

struct shape {
    bool shared = false;
    unsigned batch = 0;  // 0: each, 1: per wakeup, 2: up to 3
    ublk::options asked{};
};

template <class Backend, class QueuePolicy>
std::unique_ptr<server> serve_batched(std::shared_ptr<Backend> store, const shape& how,
                                      sim::kernel as) {
    if (how.batch == 0) {
        return std::make_unique<server_of<Backend, QueuePolicy, ublk::each>>(store, how.asked, as);
    }
    if (how.batch == 1) {
        return std::make_unique<server_of<Backend, QueuePolicy, ublk::per_wakeup>>(store, how.asked,
                                                                                   as);
    }
    return std::make_unique<server_of<Backend, QueuePolicy, ublk::up_to<3>>>(store, how.asked, as);
}

template <class Backend>
std::unique_ptr<server> serve(std::shared_ptr<Backend> store, const shape& how, sim::kernel as) {
    return how.shared ? serve_batched<Backend, ublk::shared>(store, how, as)
                      : serve_batched<Backend, ublk::per_cpu>(store, how, as);
}

/// What is stored, which outlives its servers: one of two backends.
class store {
public:
    static constexpr std::uint64_t size = 64u << 10;

    store(bool cached, std::uint32_t block_size) {
        if (cached) {
            medium_ = std::make_shared<sim::medium>(size, block_size);
            cached_ = std::make_shared<sim::cached_disk>(medium_);
        } else {
            plain_ = std::make_shared<ublk::backends::memory>(
                size, ublk::backends::memory_geometry{block_size, false});
        }
    }

    [[nodiscard]] bool cached() const noexcept { return medium_ != nullptr; }
    [[nodiscard]] std::unique_ptr<server> make_server(const shape& how, sim::kernel as) const {
        return cached() ? serve(cached_, how, as) : serve(plain_, how, as);
    }

    /// What a next process makes of it.
    void revive() {
        if (cached()) {
            cached_ = std::make_shared<sim::cached_disk>(medium_);
        }
    }
    void power_off() const noexcept { medium_->freeze(); }
    void power_on(sim::random& dice) const {
        medium_->thaw();
        medium_->power_cut(dice);
        medium_->thaw();
    }

private:
    std::shared_ptr<sim::medium> medium_;
    std::shared_ptr<sim::cached_disk> cached_;
    std::shared_ptr<ublk::backends::memory> plain_;
};

// ---------------------------------------------------------------- the input's first bytes

sim::conditions conditions_from(bytes& in) {
    constexpr ublk::kernel_version versions[] = {{7, 3},  {6, 8},  {6, 9}, {6, 12}, {6, 13},
                                                 {6, 15}, {6, 16}, {7, 0}, {7, 1}};
    // One time in one would be a kernel in which nothing ever works.
    constexpr std::uint32_t chances[] = {0, 2, 3, 16};
    constexpr std::uint32_t switches[] = {4, 0, 1, 20};
    constexpr int codes[] = {0, EINTR, EAGAIN, ENOMEM, ENODEV, EIO, EBUSY, EMFILE};
    const auto trouble = in.number<std::uint16_t>();
    const auto machine = in.number();
    sim::conditions how;
    how.seed = in.number<std::uint16_t>();
    how.version = versions[in.below(std::size(versions))];
    how.cpus = 1 + (machine & 3);
    how.switches = switches[machine >> 2 & 3];
    how.completions = machine >> 4;  // the engine asks for up to 34
    how.often = {chances[trouble & 3], chances[trouble >> 2 & 3], chances[trouble >> 4 & 3],
                 chances[trouble >> 6 & 3], chances[trouble >> 8 & 3]};
    how.once.times = 1u + (trouble >> 10 & 3);
    const auto what = in.number();
    how.once.code = codes[what % std::size(codes)];
    how.once.step = (what & 0x80) != 0 ? in.number<std::uint16_t>() % 1024 : 0;
    return how;
}

shape shape_from(bytes& in) {
    const auto bits = in.number();
    shape how;
    how.shared = (bits & 1) != 0;
    how.batch = (bits >> 1 & 3) % 3;
    how.asked.queues = 1u + (bits >> 3 & 3);
    how.asked.depth = 1u + (bits >> 5 & 3);
    const auto page = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
    how.asked.max_io_bytes = (bits & 0x80) != 0 ? page : 2 * page;
    return how;
}

// ---------------------------------------------------------------- the story

class story {
public:
    explicit story(bytes& in)
        : how_{conditions_from(in)}, shape_{shape_from(in)}, disk_bits_{in.number()},
          block_size_{(disk_bits_ & 2) != 0 ? 4096u : ublk::sector_size}, store_{(disk_bits_ & 1) !=
                                                                                     0,
                                                                                 block_size_},
          blocks_{store::size / block_size_}, in_{how_}, expected_{blocks_, block_size_,
                                                                   store_.cached()} {}

    void live(bytes& in) {
        start();
        for (unsigned actions = 0; !in.empty() && actions < 200; ++actions) {
            act(in);
            blameless();
        }
        await_all();
        stop(false);
        lingering_.reset();
        in_.settle();
        expect(in_.devices() == 0, "a device is left in the end");
        if (in_.on().tasks.tasks() != 0) {
            wrong("threads are left in the end:\n" + in_.on().tasks.describe_waits());
        }
        blameless();
    }

private:
    struct order {
        sim::io what;
        sim::bio asked;
        sim::model::ticket ticket = 0;
        std::vector<std::byte> data;
        bool busy = false;
        bool cut_short = false;  // its server went: any answer will do
    };

    void act(bytes& in) {
        const auto bits = in.number();
        switch (bits & 15) {
        case 0:
        case 1:
            return submit(op::write, false, bits >> 4, in);
        case 2:
            return submit(op::read, false, bits >> 4, in);
        case 3:
            return submit(op::write, true, bits >> 4, in);
        case 4:
            return submit(op::flush, false, bits >> 4, in);
        case 5:
            return submit(op::discard, false, bits >> 4, in);
        case 6:
            return submit(op::write_zeroes, (bits & 0x80) != 0, bits >> 4, in);
        case 7:
            return await(orders_[(bits >> 4) % orders_.size()]);
        case 8:
            return await_all();
        case 9:
            return write_dirty(in);
        case 10:
            return in_.on().tasks.sleep(std::chrono::microseconds{1} * (bits >> 4) * (bits >> 4));
        case 11:
            return restart_after_death(false);
        case 12:
            return restart_after_death(store_.cached());
        case 13:
            return stop_and_start((bits & 0x10) != 0, (bits & 0x20) != 0);
        case 14:
            return ask_nonsense(bits >> 4, in);
        default:
            return read_all();
        }
    }

    // ------------------------------------------------------------ lives of servers

    void start() {
        life_began_ = in_.on().steps;
        well_ = true;
        process_.push_back(in_.boot());
        server_ = store_.make_server(shape_, process_.back());
        try {
            server_->start();
            client_ = std::make_unique<sim::client>(in_, server_->id());
        } catch (const ublk::error& why) {
            excuse(why);
        }
        const ublk::device_state now = server_->state();
        expect(now == ublk::device_state::live || troubled(), "a started device is not live");
    }

    /// Nothing fails without a cause.
    void excuse(const ublk::error& why) {
        well_ = false;
        if (!troubled()) {
            wrong(std::string{"for no reason: "} + why.what());
        }
    }

    /// Whether a call of this server into the kernel was made to fail.
    [[nodiscard]] bool troubled() {
        return !in_.on().hit.empty() && how_.once.step + how_.once.times > life_began_;
    }

    [[nodiscard]] bool dead() const { return process_.back().dead(); }

    void stop(bool linger) {
        for (order& each : orders_) {
            each.cut_short = true;
        }
        try {
            server_->stop();
        } catch (const ublk::error& why) {
            excuse(why);
        }
        expect(server_->state() == ublk::device_state::idle, "a stopped device is not idle");
        await_all();
        end_dirty(well_ && !dead() && !troubled() ? 0 : EIO);
        if (linger) {
            lingering_ = std::move(client_);
        }
        bury();
    }

    void stop_and_start(bool under_load, bool linger) {
        if (!under_load) {
            await_all();
        }
        lingering_.reset();
        stop(linger);
        start();
    }

    void restart_after_death(bool power_cut) {
        lingering_.reset();
        for (order& each : orders_) {
            each.cut_short = true;
        }
        if (power_cut) {
            store_.power_off();
        }
        process_.back().kill();
        await_all();
        end_dirty(EIO);
        bury();
        if (power_cut) {
            store_.power_on(in_.dice());
            expected_.power_cut();
        } else {
            expected_.server_died();
        }
        start();
    }

    /// The server is over; nothing of it may be left, unless it died or a command of it failed.
    void bury() {
        const bool died = dead();
        client_.reset();
        server_.reset();
        in_.settle();
        const std::size_t left = in_.devices() - (lingering_ != nullptr ? 1 : 0);
        if (left != 0 && in_.devices() != 0 && !died) {
            // That a device is gone is taken for granted where the driver says so.
            expect(!well_ || how_.once.code == ENODEV,
                   "a device is left behind, and nobody was told");
            expect(troubled() && control_was_hit(),
                   "a device is left behind, and no command failed");
        }
        clean_up();
        store_.revive();
    }

    [[nodiscard]] bool control_was_hit() {
        const std::string_view hit = in_.on().hit;
        for (const std::string_view other :
             {"clone", "mmap", "io_uring_setup", "io_uring_enter", "open /dev/ublkcN"}) {
            if (hit == other && how_.once.times == 1) {
                return false;
            }
        }
        return true;
    }

    /// What a next process does with what is left. Its calls may be those that fail.
    void clean_up() {
        for (unsigned attempt = 0; in_.devices() != 0; ++attempt) {
            expect(attempt < 8, "what a dead server left cannot be removed");
            lingering_.reset();
            const sim::kernel janitor = in_.boot();
            for (std::uint32_t id = 0; id < 16; ++id) {
                try {
                    if (in_.ublk_drv().life.find(id) != nullptr) {
                        ublk::control<sim::kernel> commands{janitor, 60s};
                        commands.stop_dev(id, 60s);
                        commands.del_dev(id);
                    }
                } catch (const ublk::error& why) {
                    if (in_.on().hit.empty()) {
                        wrong(std::string{"cleaning up: "} + why.what());
                    }
                }
            }
            in_.settle();
        }
    }

    // ------------------------------------------------------------ requests

    void submit(op what, bool fua, unsigned cpu, bytes& in) {
        const auto block = in.number();
        const auto length = what == op::flush ? std::uint8_t{0} : in.number();
        order* free = nullptr;
        for (order& each : orders_) {
            free = each.busy ? free : &each;
        }
        if (client_ == nullptr) {
            return;
        }
        if (free == nullptr) {
            free = &orders_.front();
            await(*free);
        }
        order& o = *free;
        o.what = sim::io{what, 0, 0, fua};
        if (what != op::flush) {
            o.what.block = block % blocks_;
            o.what.blocks = static_cast<std::uint32_t>(
                1 + length % std::min<std::uint64_t>(blocks_ - o.what.block, 40));
        }
        issue(o, cpu);
    }

    void issue(order& o, unsigned cpu) {
        const bool data = o.what.op == op::read || o.what.op == op::write;
        o.data.assign(data ? std::size_t{o.what.blocks} * block_size_ : 0, std::byte{});
        o.ticket = expected_.begin(o.what, o.data);
        o.asked = sim::bio{};
        o.asked.op = o.what.op;
        o.asked.sector = ublk::bytes_to_sectors(o.what.block * block_size_);
        o.asked.sectors = ublk::bytes_to_sectors(std::uint64_t{o.what.blocks} * block_size_);
        o.asked.flags = o.what.fua ? flag::fua : 0;
        o.asked.data = o.data.data();
        o.asked.cpu = cpu % how_.cpus;
        o.busy = true;
        o.cut_short = false;
        client_->submit(o.asked);
    }

    void await(order& o) {
        if (!o.busy) {
            return;
        }
        const int error = client_->wait(o.asked);
        blameless();
        o.busy = false;
        const std::string complaint = expected_.end(o.ticket, error, o.data);
        if (!complaint.empty()) {
            wrong(complaint);
        }
        if (error != 0 && !o.cut_short && !troubled()) {
            wrong("a client gets errno " + std::to_string(error) + " for operation " +
                  std::to_string(static_cast<unsigned>(o.what.op)) + " at block " +
                  std::to_string(o.what.block));
        }
    }

    void await_all() {
        for (order& each : orders_) {
            await(each);
        }
    }

    void read_all() {
        for (std::uint64_t block = 0; block < blocks_ && client_ != nullptr; block += 16) {
            order& o = orders_.front();
            await(o);
            o.what = sim::io{op::read, block, 16, false};
            issue(o, 0);
        }
        await(orders_.front());
    }

    void write_dirty(bytes& in) {
        const std::uint64_t block = in.number() % blocks_;
        const auto blocks = static_cast<std::uint32_t>(
            1 + in.number() % std::min<std::uint64_t>(blocks_ - block, 24));
        if (client_ == nullptr || dirty_.size() >= 8) {
            return;
        }
        std::vector<std::byte> data(std::size_t{blocks} * block_size_);
        dirty_.push_back(expected_.begin({op::write, block, blocks, false}, data));
        client_->write_dirty(block * block_size_, data);
    }

    void end_dirty(int error) {
        for (const sim::model::ticket each : std::exchange(dirty_, {})) {
            (void)expected_.end(each, error, {});
        }
    }

    /// Requests that the block layer refuses by itself, so that no server hears of them.
    void ask_nonsense(unsigned kind, bytes& in) {
        std::vector<std::byte> data(ublk::sector_size);
        const std::uint64_t end = blocks_ * block_size_;
        const std::uint64_t beyond = std::uint64_t{in.number()} * block_size_;
        if (client_ == nullptr) {
            return;
        }
        if ((kind & 1) != 0) {
            data.resize(block_size_);
            expect(client_->read(end + beyond, data) == EIO, "a read beyond the end succeeds");
        } else if ((kind & 2) != 0) {
            expect(client_->discard(end - block_size_, block_size_ * 2) == EIO,
                   "a discard beyond the end succeeds");
        } else if (block_size_ != ublk::sector_size) {
            const int error = client_->write(ublk::sector_size, data);
            expect(error == EINVAL || troubled(), "a misaligned write succeeds");
        }
    }

    void blameless() {
        const std::vector<std::string> all = in_.take_violations();
        if (!all.empty()) {
            wrong("violation: " + all.front());
        }
    }

    sim::conditions how_;
    shape shape_;
    std::uint8_t disk_bits_;
    std::uint32_t block_size_;
    store store_;
    std::uint64_t blocks_;
    std::array<order, 10> orders_{};
    sim::world in_;
    sim::model expected_;
    std::deque<sim::kernel> process_;
    std::unique_ptr<server> server_;
    std::unique_ptr<sim::client> client_;
    std::unique_ptr<sim::client> lingering_;
    std::vector<sim::model::ticket> dirty_;
    std::uint64_t life_began_ = 0;
    bool well_ = true;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    bytes in{data, size};
    story one{in};
    one.live(in);
    return 0;
}
