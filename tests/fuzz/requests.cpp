// SPDX-License-Identifier: MIT
// A whole disk on the simulated driver: clients' requests, servers that are stopped, killed and
// started again, power cuts, and a kernel in which something goes wrong, all as the input says.
// Every answer is compared with a model of the disk.
#include "../support/async_disks.hpp"
#include "bytes.hpp"

#include <ublk/backend.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/control/control_commands.hpp>
#include <ublk/data_path.hpp>
#include <ublk/device.hpp>
#include <ublk/device/path_choice.hpp>
#include <ublk/policy/batch_policy.hpp>
#include <ublk/policy/queue_policies.hpp>
#include <ublk/sim/batch_wire.hpp>
#include <ublk/sim/cached_disk.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/kernel.hpp>
#include <ublk/sim/medium.hpp>
#include <ublk/sim/model.hpp>
#include <ublk/sim/negotiation.hpp>
#include <ublk/sim/world.hpp>
#include <ublk/thread_set.hpp>

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
    server_of(std::shared_ptr<Backend> store, const ublk::options& requested, unsigned threads,
              sim::kernel as)
        : store_{std::move(store)}, requested_{requested}, threads_{threads}, as_{as} {}

    void start() override {
        if constexpr (ublk::queue_policy_traits<QueuePolicy>::on_thread_set) {
            const ublk::basic_thread_set<sim::kernel> threads{{.threads = threads_}, as_};
            device_.emplace(store_, threads, requested_, as_);
        } else {
            device_.emplace(store_, requested_, as_);
        }
        device_->start();
    }
    void stop() override {
        if (device_) {
            device_->stop();
        }
    }
    [[nodiscard]] ublk::device_state state() const override {
        return device_ ? device_->state() : ublk::device_state::idle;
    }
    [[nodiscard]] std::uint32_t id() const override { return device_->id(); }

private:
    std::shared_ptr<Backend> store_;
    ublk::options requested_;
    unsigned threads_;  ///< of a thread set
    sim::kernel as_;
    std::optional<ublk::device<Backend, QueuePolicy, BatchPolicy, sim::kernel>> device_;
};

struct shape {
    unsigned policies = 0;
    unsigned threads = 1;                   ///< where a queue policy can have any number
    std::optional<ublk::data_path> path{};  ///< where backend and kernel have it
    ublk::options requested{};
};

template <class Backend, class QueuePolicy, class BatchPolicy>
std::unique_ptr<server> serve_with(std::shared_ptr<Backend> store, const shape& given,
                                   sim::kernel as) {
    ublk::options requested = given.requested;
    if (given.path && ublk::offers<Backend>(*given.path) &&
        (ublk::features_of(*given.path) & ~sim::features_of(as.version())) == 0 &&
        (!ublk::batch_policy_traits<BatchPolicy>::by_driver || ublk::batches_carry(*given.path))) {
        requested.path = given.path;
    }
    requested.threads =
        ublk::queue_policy_traits<QueuePolicy>::takes_thread_count ? given.threads : 0;
    return std::make_unique<server_of<Backend, QueuePolicy, BatchPolicy>>(
        std::move(store), requested, given.threads, as);
}

template <class QueuePolicy, class BatchPolicy>
struct by {};

/// One of those pairs of policies: all pairs for all backends would take minutes to compile.
template <class Backend, class... QueuePolicy, class... BatchPolicy>
std::unique_ptr<server> serve(std::shared_ptr<Backend> store, const shape& given, sim::kernel as,
                              by<QueuePolicy, BatchPolicy>...) {
    using maker = std::unique_ptr<server> (*)(std::shared_ptr<Backend>, const shape&, sim::kernel);
    constexpr maker makers[] = {&serve_with<Backend, QueuePolicy, BatchPolicy>...};
    return makers[given.policies % std::size(makers)](std::move(store), given, as);
}

/// What is stored, which outlives its servers: one of several backends.
class store {
public:
    enum class kind : std::uint8_t { memory, file, pages, handed_over, cached };
    static constexpr std::uint64_t size = 32u << 10;

    store(kind which, std::uint32_t block_size) : kind_{which} {
        switch (kind_) {
        case kind::memory:
        case kind::handed_over:
            plain_ = std::make_shared<ublk::backends::memory>(
                size, ublk::backends::memory_geometry{block_size, false});
            break;
        case kind::file:
        case kind::pages:
            file_.emplace(size);
            break;
        case kind::cached:
            medium_ = std::make_shared<sim::medium>(size, block_size);
            break;
        }
        revive();
    }

    /// Whether its blocks may be of any size.
    [[nodiscard]] static bool has_geometry(kind which) noexcept {
        return which == kind::memory || which == kind::cached;
    }

    [[nodiscard]] bool cached() const noexcept { return kind_ == kind::cached; }
    [[nodiscard]] ublk::disk_attributes attributes() const {
        return cached()                     ? ublk::attributes_of(*cached_)
               : paging_ != nullptr         ? ublk::attributes_of(*paging_)
               : on_file_ != nullptr        ? ublk::attributes_of(*on_file_)
               : kind_ == kind::handed_over ? ublk::attributes_of(*handing_)
                                            : ublk::attributes_of(*plain_);
    }

    [[nodiscard]] std::unique_ptr<server> make_server(const shape& given, sim::kernel as) const {
        using namespace ublk;
        switch (kind_) {
        case kind::memory:
            return serve(plain_, given, as, by<per_cpu, each>{}, by<shared, per_wakeup>{},
                         by<interleaved, up_to<3>>{}, by<pooled, batch_io>{},
                         by<per_cpu, batch_io>{});
        case kind::file:
            return serve(on_file_, given, as, by<per_cpu, batch_io>{}, by<shared, each>{},
                         by<interleaved, per_wakeup>{});
        case kind::pages:
            return serve(paging_, given, as, by<interleaved, up_to<3>>{}, by<pooled, batch_io>{});
        case kind::handed_over:
            return serve(handing_, given, as, by<shared, batch_io>{}, by<pooled, each>{});
        case kind::cached:
            break;
        }
        return serve(cached_, given, as, by<per_cpu, per_wakeup>{}, by<shared, up_to<3>>{},
                     by<pooled, batch_io>{});
    }

    /// What a next process makes of it.
    void revive() {
        if (cached()) {
            cached_ = std::make_shared<sim::cached_disk>(medium_);
        } else if (kind_ == kind::file) {
            on_file_ = std::make_shared<file_disk>(*file_);
        } else if (kind_ == kind::pages) {
            paging_ = std::make_shared<paging_disk>(*file_);
        } else if (kind_ == kind::handed_over) {
            handing_ = std::make_shared<handing_disk>(plain_);
        }
    }
    void power_off() const noexcept { medium_->freeze(); }
    void power_on(sim::random& dice) const {
        medium_->thaw();
        medium_->power_cut(dice);
        medium_->thaw();
    }

private:
    kind kind_;
    std::shared_ptr<ublk::backends::memory> plain_;
    std::optional<bare_file> file_;
    std::shared_ptr<sim::medium> medium_;
    std::shared_ptr<sim::cached_disk> cached_;
    std::shared_ptr<file_disk> on_file_;
    std::shared_ptr<paging_disk> paging_;
    std::shared_ptr<handing_disk> handing_;
};

// ---------------------------------------------------------------- the input's first bytes

sim::conditions conditions_from(bytes& in) {
    constexpr ublk::kernel_version versions[] = {{7, 3},  {6, 8},  {6, 9}, {6, 12}, {6, 13},
                                                 {6, 15}, {6, 16}, {7, 0}, {7, 1}};
    // One time in one would be a kernel in which nothing ever works.
    constexpr std::uint32_t chances[] = {0, 2, 3, 16};
    constexpr std::uint32_t switches[] = {4, 0, 1, 20};
    constexpr int codes[] = {0, EINTR, EAGAIN, ENOMEM, ENODEV, EIO, EBUSY, EMFILE};
    const auto odds = in.number<std::uint16_t>();
    const auto machine = in.number();
    sim::conditions given;
    given.seed = in.number<std::uint16_t>();
    given.version = versions[in.below(std::size(versions))];
    given.cpus = 1 + (machine & 3);
    given.switches = switches[machine >> 2 & 3];
    given.completions = machine >> 4;  // the engine asks for up to 34
    given.often = {chances[odds & 3], chances[odds >> 2 & 3], chances[odds >> 4 & 3],
                   chances[odds >> 6 & 3], chances[odds >> 8 & 3]};
    given.often.short_transfer = chances[odds >> 12 & 3];
    given.often.operation_again = given.often.unregistered = chances[odds >> 14];
    given.transfer_unit = ublk::sector_size;  // the model knows whole blocks
    given.once.times = 1u + (odds >> 10 & 3);
    const auto what = in.number();
    given.once.code = codes[what % std::size(codes)];
    given.once.step = (what & 0x80) != 0 ? in.number<std::uint16_t>() % 1024 : 0;
    return given;
}

shape shape_from(bytes& in) {
    const auto bits = in.number();
    shape given;
    given.policies = bits & 7;
    given.requested.queues = 1u + (bits >> 3 & 3);
    given.requested.depth = 1u + (bits >> 5 & 3);
    const auto page = static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE));
    given.requested.max_io_bytes = (bits & 0x80) != 0 ? page : 2 * page;
    return given;
}

/// Which disk it is, beside how it is served.
struct disk {
    store::kind kind = store::kind::memory;
    std::uint32_t block_size = ublk::sector_size;
};

disk disk_from(bytes& in, shape& given) {
    constexpr auto paths = static_cast<unsigned>(std::size(ublk::data_path_names));
    const auto bits = in.number();
    const unsigned path = bits >> 2 & 7;
    given.path = path < paths ? std::optional{static_cast<ublk::data_path>(path)} : std::nullopt;
    given.threads = 1u + (bits >> 7);
    disk made;
    made.kind = (bits & 1) != 0 ? store::kind::cached : static_cast<store::kind>(bits >> 5 & 3);
    if ((bits & 2) != 0 && store::has_geometry(made.kind)) {
        made.block_size = 4096;
    }
    return made;
}

// ---------------------------------------------------------------- the story

class story {
public:
    explicit story(bytes& in)
        : given_{conditions_from(in)}, shape_{shape_from(in)}, disk_{disk_from(in, shape_)},
          block_size_{disk_.block_size}, store_{disk_.kind, block_size_},
          attributes_{store_.attributes()}, blocks_{store::size / block_size_}, in_{given_},
          expected_{blocks_, block_size_, attributes_.volatile_cache} {}

    void live(bytes& in) {
        start();
        for (unsigned actions = 0; !in.empty() && actions < 60; ++actions) {
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
    static constexpr unsigned lives_max = 5;  // one takes as long as dozens of requests

    struct order {
        sim::io what;
        sim::bio requested;
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
        ++lives_;
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
        expect(now == ublk::device_state::live || has_failures(), "a started device is not live");
    }

    /// Nothing fails without a cause.
    void excuse(const ublk::error& why) {
        well_ = false;
        if (!has_failures()) {
            wrong(std::string{"for no reason: "} + why.what());
        }
    }

    /// Whether a call of this server into the kernel was made to fail.
    [[nodiscard]] bool has_failures() {
        return !in_.on().hit.empty() && given_.once.step + given_.once.times > life_began_;
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
        end_dirty(well_ && !dead() && !has_failures() ? 0 : EIO);
        if (linger) {
            lingering_ = std::move(client_);
        }
        bury();
    }

    void stop_and_start(bool under_load, bool linger) {
        if (lives_ == lives_max) {
            return;
        }
        if (!under_load) {
            await_all();
        }
        lingering_.reset();
        stop(linger);
        start();
    }

    void restart_after_death(bool power_cut) {
        if (lives_ == lives_max) {
            return;
        }
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
            expect(!well_ || given_.once.code == ENODEV,
                   "a device is left behind, and nobody was told");
            expect(has_failures() && control_was_hit(),
                   "a device is left behind, and no command failed");
        }
        clean_up();
        store_.revive();
    }

    [[nodiscard]] bool control_was_hit() {
        const std::string_view hit = in_.on().hit;
        for (const std::string_view other : {"clone", "mmap", "io_uring_setup", "io_uring_register",
                                             "io_uring_enter", "open /dev/ublkcN"}) {
            if (hit == other && given_.once.times == 1) {
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
                        ublk::detail::control_commands<sim::kernel> commands{janitor, 60s};
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
        if ((what == op::discard && !attributes_.discards) ||
            (what == op::write_zeroes && attributes_.max_write_zeroes_size == 0)) {
            what = op::write;
        }
        order& o = *free;
        o.what = sim::io{what, 0, 0, fua};
        if (what != op::flush) {
            o.what.block = block % blocks_;
            o.what.blocks = static_cast<std::uint32_t>(
                1 + length % std::min<std::uint64_t>(blocks_ - o.what.block, 24));
        }
        issue(o, cpu);
    }

    void issue(order& o, unsigned cpu) {
        const bool data = o.what.op == op::read || o.what.op == op::write;
        o.data.assign(data ? std::size_t{o.what.blocks} * block_size_ : 0, std::byte{});
        o.ticket = expected_.begin(o.what, o.data);
        o.requested = sim::bio{};
        o.requested.op = o.what.op;
        o.requested.sector = ublk::bytes_to_sectors(o.what.block * block_size_);
        o.requested.sectors = ublk::bytes_to_sectors(std::uint64_t{o.what.blocks} * block_size_);
        o.requested.flags = o.what.fua ? flag::fua : 0;
        o.requested.data = o.data.data();
        o.requested.cpu = cpu % given_.cpus;
        o.busy = true;
        o.cut_short = false;
        client_->submit(o.requested);
    }

    void await(order& o) {
        if (!o.busy) {
            return;
        }
        const int error = client_->wait(o.requested);
        blameless();
        o.busy = false;
        const std::string complaint = expected_.end(o.ticket, error, o.data);
        if (!complaint.empty()) {
            wrong(complaint);
        }
        if (error != 0 && !o.cut_short && !has_failures()) {
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
            const auto blocks = std::min<std::uint64_t>(16, blocks_ - block);
            o.what = sim::io{op::read, block, static_cast<std::uint32_t>(blocks), false};
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
            expect(error == EINVAL || has_failures(), "a misaligned write succeeds");
        }
    }

    void blameless() {
        for (const std::string& each : in_.take_violations()) {
            if (!left_behind(each)) {
                wrong("violation: " + each);
            }
        }
    }

    /// KNOWN: where io_uring_enter fails for good, a thread cannot wait for the operations of its
    /// backend, and leaves their memory behind.
    [[nodiscard]] bool left_behind(std::string_view violation) {
        return violation.starts_with("a ring is closed upon operations in flight") &&
               !in_.on().hit.empty() && (in_.on().hit == "io_uring_enter" || given_.once.times > 1);
    }

    sim::conditions given_;
    shape shape_;
    disk disk_;
    std::uint32_t block_size_;
    store store_;
    ublk::disk_attributes attributes_;
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
    unsigned lives_ = 0;
    bool well_ = true;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    bytes in{data, size};
    story one{in};
    one.live(in);
    return 0;
}
