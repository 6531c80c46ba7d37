// SPDX-License-Identifier: MIT
#pragma once

// A small ublk driver in this process, for the `kernel` concept: control commands answer from a
// script, requests come from the test, and what the real driver would refuse is written down in
// `violations`. No gold plating: a full simulator will replace it.

#include <ublk/detail/fd.hpp>
#include <ublk/detail/mapping.hpp>
#include <ublk/kernel/host.hpp>
#include <ublk/kernel/kernel.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ublk_test {

using namespace std::chrono_literals;
namespace uapi = ublk::uapi;

/// Queue threads that have something to do. While there are some, no deadline of a server passes:
/// on a loaded machine they are late, and that is not what a test wants to hear of.
inline std::atomic<int> busy_threads = 0;

/// Other threads that wait for the end of a server.
inline std::atomic<int> waiting_threads = 0;

/// The calling queue thread has nothing to do as long as this is there.
class pause {
public:
    pause() noexcept { --busy_threads; }
    pause(const pause&) = delete;
    ~pause() { ++busy_threads; }
};

/// As `changed.wait_until`, but see `busy_threads`. Ends after 60 s at the latest.
template <class Lock, class Test>
bool patiently_wait(std::condition_variable_any& changed, Lock& lock, ublk::detail::deadline until,
                    Test test) {
    const ublk::detail::deadline begun = std::chrono::steady_clock::now();
    if (until <= begun) {
        return test();
    }
    while (!changed.wait_until(lock, until, test)) {
        const ublk::detail::deadline now = std::chrono::steady_clock::now();
        if (busy_threads <= 0 || now > begun + 60s) {
            return false;
        }
        until = now + 1ms;
    }
    return true;
}

/// How the driver treats one kind of control command.
struct reply {
    enum class manner {
        normal,
        refuse,  ///< answers -code
        silent,  ///< no answer until it is cancelled, then EINTR
        deaf,    ///< no answer whatever happens
        late,    ///< carried out only once it is cancelled
        tardy,   ///< only when it has been given up on after that
    };
    manner given = manner::normal;
    int code = 0;
};

/// A request of a client.
struct client_io {
    unsigned queue = 0;
    unsigned tag = 0;
    std::uint32_t op_flags = 0;
    std::uint64_t sector = 0;
    std::uint32_t sectors = 0;
    std::vector<std::byte> data{};  ///< of a write, or of a read that was answered
};

class fake_kernel : public ublk::detail::native_host {
public:
    class control;
    class channel;
    class port;
    class wakeup;

    class thread : public std::thread {
    public:
        thread() = default;
        template <class Body>
        explicit thread(Body body)
            : std::thread{(++busy_threads, [body = std::move(body)]() mutable {
                  serves() = true;
                  body();
                  --busy_threads;
              })} {}

        /// Whether the calling thread is one of these.
        static bool& serves() noexcept {
            static thread_local bool yes = false;
            return yes;
        }
    };

    class condition : public std::condition_variable_any {
    public:
        template <class Lock, class Test>
        bool wait_until(Lock& lock, ublk::detail::deadline until, Test test) {
            return patiently_wait(*this, lock, until, test);
        }
        template <class Lock, class Test>
        bool wait(Lock& lock, std::stop_token stop, Test test) {
            const int others = thread::serves() ? 0 : 1;
            waiting_threads += others;
            const bool held = std::condition_variable_any::wait(lock, stop, test);
            waiting_threads -= others;
            return held;
        }
    };

    struct sent_command {
        std::uint32_t op;
        uapi::ctrl_cmd header;
        std::vector<std::byte> payload;
    };

    /// Events of one port, and the means to rouse it.
    struct wakeup_event {
        std::mutex mutex;
        std::condition_variable rung;
        std::vector<std::pair<ublk::detail::user_data, int>> events;
        bool woken = false;
        bool asleep = false;  ///< who waits for it
        void ring(ublk::detail::user_data t, int answer) {
            const std::lock_guard lock{mutex};
            events.emplace_back(t, answer);
            wakeup();
        }
        void wakeup() {
            busy_threads += std::exchange(asleep, false) ? 1 : 0;
            rung.notify_all();
        }
    };

    struct slot_state {
        enum class stage { free, fetched, serving, gone };
        stage at = stage::free;
        std::thread::id daemon{};
        ublk::detail::user_data event{0};
        const std::byte* buffer = nullptr;
        std::shared_ptr<wakeup_event> to{};
        client_io requested{};
        std::optional<int> answer{};
    };

    struct flight {
        ublk::detail::control_command command;
        bool awaited = false;
        bool cancelled = false;
        unsigned given_up = 0;
        std::optional<int> answer{};
    };

    /// The driver. The script is set before the start; the rest is under the mutex.
    struct state {
        // ---- script
        ublk::kernel_version version{6, 8};
        // Without other data paths than a copy: these are the simulator's.
        std::uint64_t features =
            ((1ull << 11) - 1) & ~(uapi::feature::need_get_data | uapi::feature::user_copy |
                                   uapi::feature::support_zero_copy);
        std::map<std::uint32_t, reply> script{};
        int control_errno = 0;
        int open_errno = 0;
        int map_errno = 0;
        int map_last_errno = 0;  ///< only for the last queue, once all others offer their tags
        unsigned queues_max = 64;
        unsigned depth_max = 4096;
        std::uint32_t io_bytes_max = 32u << 20;
        std::uint64_t dropped_flags = 0;
        std::uint16_t desc_size = 0;  ///< 0: as before 7.3
        bool scan = false;            ///< START_DEV reads the first sector
        int refuse_fetch = 0;         ///< errno for the last tag of the last queue
        int refuse_commit = 0;        ///< errno for the next commit

        // ---- what happened
        std::mutex mutex;
        std::condition_variable_any changed;
        std::vector<sent_command> log{};
        std::map<std::uint32_t, std::chrono::nanoseconds> limits{};  ///< of the last of each kind
        std::vector<std::string> violations{};
        std::deque<int> wait_codes{};  ///< what the next waits return instead of waiting
        unsigned opened = 0;
        unsigned open_channels = 0;
        unsigned kept_numbers = 0;  ///< of channels that were closed for good
        unsigned open_controls = 0;
        unsigned closed_upon_tags = 0;  ///< ports that went while the driver had tags of theirs
        unsigned flushes = 0;           ///< of something, other than by waiting
        unsigned waits = 0;
        unsigned commits = 0;
        std::vector<client_io> order{};  ///< of commits

        // ---- the device
        bool exists = false;
        bool live = false;
        bool stopping = false;
        bool scanned = false;
        uapi::dev_info info{};
        uapi::params params{};
        std::vector<std::vector<slot_state>> tags{};
        ublk::fd memory{};
        ublk::detail::mapping descriptors{};
        std::size_t stride = 0;

        static std::size_t page() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

        void complain(std::string text) { violations.push_back(std::move(text)); }

        [[nodiscard]] bool all(slot_state::stage at) const { return count(at) == total(); }
        [[nodiscard]] std::size_t total() const { return tags.size() * info.queue_depth; }
        [[nodiscard]] std::size_t count(slot_state::stage at) const {
            std::size_t n = 0;
            for (const auto& queue : tags) {
                n += static_cast<std::size_t>(std::count_if(
                    queue.begin(), queue.end(), [at](const slot_state& s) { return s.at == at; }));
            }
            return n;
        }

        void create(const uapi::dev_info& granted) {
            info = granted;
            exists = true;
            live = stopping = scanned = false;
            tags.assign(info.nr_hw_queues, std::vector<slot_state>(info.queue_depth));
            const std::size_t size = desc_size != 0 ? desc_size : sizeof(uapi::io_desc);
            stride = uapi::cmd_buf_stride(size, page());
            memory = ublk::fd{::memfd_create("descriptors", MFD_CLOEXEC)};
            if (::ftruncate(memory.get(), static_cast<off_t>(stride * tags.size())) != 0) {
                ublk::fail(errno, "ftruncate", std::nullopt);
            }
            descriptors = ublk::detail::mapping{
                stride * tags.size(), PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0, "memfd"};
        }

        void deliver(const client_io& io) {
            slot_state& s = tags.at(io.queue).at(io.tag);
            const std::size_t size = desc_size != 0 ? desc_size : sizeof(uapi::io_desc);
            const uapi::io_desc words{io.op_flags, io.sectors, io.sector,
                                      reinterpret_cast<std::uintptr_t>(s.buffer)};
            std::memcpy(descriptors.data() + io.queue * stride + io.tag * size, &words,
                        sizeof words);
            if (!io.data.empty()) {
                std::memcpy(const_cast<std::byte*>(s.buffer), io.data.data(), io.data.size());
            }
            s.requested = io;
            s.answer.reset();
            s.at = slot_state::stage::serving;
            s.to->ring(s.event, uapi::io_res_ok);
        }

        /// STOP_DEV: aborts what is idle once nothing is outstanding.
        void advance() {
            if (stopping && count(slot_state::stage::serving) == 0) {
                for (auto& queue : tags) {
                    for (slot_state& s : queue) {
                        if (s.at == slot_state::stage::fetched) {
                            s.at = slot_state::stage::gone;
                            s.to->ring(s.event, uapi::io_res_abort);
                        }
                    }
                }
                live = false;
            }
            changed.notify_all();
        }

        void server_left(slot_state& s) {
            if (s.at == slot_state::stage::serving) {
                s.answer = -EIO;
            }
            s.at = slot_state::stage::gone;
            s.to.reset();
        }

        std::optional<int> carry_out(ublk::detail::control_command& c) {
            namespace ctrl = uapi::ctrl;
            if (c.op == ctrl::get_features) {
                std::memcpy(c.payload, &features, sizeof features);
                return c.header.len == sizeof features ? 0 : -EINVAL;
            }
            if (c.op == ctrl::add_dev) {
                return add(c);
            }
            if (!exists || c.header.dev_id != info.dev_id) {
                return -ENODEV;
            }
            switch (c.op) {
            case ctrl::get_dev_info:
                std::memcpy(c.payload, &info, sizeof info);
                return 0;
            case ctrl::get_dev_info2:
                std::memcpy(c.payload + c.header.dev_path_len, &info, sizeof info);
                return 0;
            case ctrl::set_params:
                std::memcpy(&params, c.payload, sizeof params);
                return live ? -EACCES : 0;
            case ctrl::get_params:
                std::memcpy(c.payload, &params, sizeof params);
                return 0;
            case ctrl::get_queue_affinity:
                c.payload[0] = std::byte{1};  // CPU 0, which every machine has
                return 0;
            case ctrl::start_dev:
                return start(c);
            case ctrl::stop_dev:
                stopping = true;
                advance();
                return count(slot_state::stage::serving) == 0 ? std::optional{0} : std::nullopt;
            case ctrl::del_dev:
            case ctrl::del_dev_async:
                stopping = true;
                advance();
                if (open_channels != 0) {
                    return std::nullopt;
                }
                exists = false;
                return 0;
            default:
                return -EOPNOTSUPP;
            }
        }

        int add(ublk::detail::control_command& c) {
            uapi::dev_info requested;
            std::memcpy(&requested, c.payload, sizeof requested);
            if (c.header.queue_id != uapi::no_queue_id || c.header.len != sizeof requested ||
                c.header.dev_id != requested.dev_id) {
                return -EINVAL;
            }
            if (exists) {
                return -EEXIST;
            }
            requested.dev_id = requested.dev_id == uapi::any_dev_id ? 7 : requested.dev_id;
            requested.nr_hw_queues =
                static_cast<std::uint16_t>(std::min<unsigned>(requested.nr_hw_queues, queues_max));
            requested.queue_depth =
                static_cast<std::uint16_t>(std::min<unsigned>(requested.queue_depth, depth_max));
            requested.max_io_buf_bytes = std::min(requested.max_io_buf_bytes, io_bytes_max) /
                                         static_cast<std::uint32_t>(page()) *
                                         static_cast<std::uint32_t>(page());
            requested.flags &= ~dropped_flags;
            requested.flags |= uapi::feature::cmd_ioctl_encode;
            if (desc_size != 0) {
                requested.flags |= uapi::feature::io_desc_size;
                requested.io_desc_size = desc_size;
            }
            create(requested);
            std::memcpy(c.payload, &info, sizeof info);
            return 0;
        }

        std::optional<int> start(const ublk::detail::control_command& c) {
            if (c.header.data != static_cast<std::uint64_t>(::getpid()) || params.len == 0) {
                return -EINVAL;
            }
            if (stopping) {
                return -EBUSY;
            }
            if (!live && !all(slot_state::stage::fetched)) {
                return std::nullopt;
            }
            live = true;
            if (scan && !scanned) {
                scanned = true;
                deliver({0, 0, 0, 0, 1});
            }
            return scan && !tags[0][0].answer ? std::nullopt : std::optional{0};
        }

        void consider(flight& f) {
            if (f.answer) {
                return;
            }
            const auto found = script.find(f.command.op);
            const reply r = found == script.end() ? reply{} : found->second;
            switch (r.given) {
            case reply::manner::deaf:
                return;
            case reply::manner::refuse:
                f.answer = -r.code;
                return;
            case reply::manner::silent:
                break;
            case reply::manner::late:
            case reply::manner::tardy:
                if (r.given == reply::manner::late ? !f.cancelled : f.given_up < 2) {
                    return;
                }
                [[fallthrough]];
            case reply::manner::normal:
                f.answer = carry_out(f.command);
            }
            if (!f.answer && f.cancelled) {
                f.answer = -EINTR;
            }
        }
    };

    // ---- what a `kernel` has
    [[nodiscard]] ublk::kernel_version version() const { return driver->version; }
    [[nodiscard]] std::size_t page_size() const { return state::page(); }
    [[nodiscard]] control open_control() const;
    [[nodiscard]] channel open_channel(std::uint32_t id, ublk::detail::deadline until) const;

    // ---- for tests
    /// Client requests, all delivered at once as soon as their tags are fetched.
    void post(const std::vector<client_io>& all) const {
        std::unique_lock lock{driver->mutex};
        const bool there = driver->changed.wait_for(lock, 60s, [&] {
            return std::all_of(all.begin(), all.end(), [&](const client_io& io) {
                return driver->tags.at(io.queue).at(io.tag).at == slot_state::stage::fetched;
            });
        });
        if (!there) {
            driver->complain("a client's tag is never fetched");
            return;
        }
        for (const client_io& io : all) {
            driver->deliver(io);
        }
    }

    /// What the server said of the last request on that tag.
    int answer(unsigned queue, unsigned tag, std::vector<std::byte>* data = nullptr) const {
        std::unique_lock lock{driver->mutex};
        slot_state& s = driver->tags.at(queue).at(tag);
        if (!driver->changed.wait_for(lock, 60s, [&] { return s.answer.has_value(); })) {
            driver->complain("a client waits in vain");
            return -ETIMEDOUT;
        }
        if (data != nullptr) {
            *data = s.requested.data;
        }
        return *s.answer;
    }

    int serve(const client_io& io, std::vector<std::byte>* data = nullptr) const {
        post({io});
        return answer(io.queue, io.tag, data);
    }

    /// STOP_DEV from another process; waits for nothing.
    void stop_from_outside() const {
        const std::lock_guard lock{driver->mutex};
        driver->stopping = true;
        driver->advance();
    }

    template <class Pick>
    auto get(Pick pick) const {
        const std::lock_guard lock{driver->mutex};
        return pick(*driver);
    }

    [[nodiscard]] std::size_t times(std::uint32_t op) const {
        return get([op](const state& s) {
            return static_cast<std::size_t>(
                std::count_if(s.log.begin(), s.log.end(),
                              [op](const sent_command& sent) { return sent.op == op; }));
        });
    }

    /// Waits until `test(state)` holds; false after 60 s.
    template <class Test>
    bool until(Test test) const {
        std::unique_lock lock{driver->mutex};
        return driver->changed.wait_for(lock, 60s, [&] { return test(*driver); });
    }

    std::shared_ptr<state> driver = std::make_shared<state>();
};

class fake_kernel::control {
public:
    explicit control(std::shared_ptr<state> d) : driver_{std::move(d)} {
        const std::lock_guard lock{driver_->mutex};
        ++driver_->open_controls;
    }
    control(control&&) noexcept = default;
    ~control() {
        if (driver_) {
            const std::lock_guard lock{driver_->mutex};
            --driver_->open_controls;
        }
    }

    ublk::detail::control_ticket begin(const ublk::detail::control_command& c) {
        const std::lock_guard lock{driver_->mutex};
        driver_->log.push_back({c.op, c.header, {c.payload, c.payload + c.header.len}});
        flight& f = flights_.emplace(++last_, flight{c}).first->second;
        driver_->consider(f);
        driver_->changed.notify_all();
        return last_;
    }

    int finish(ublk::detail::control_ticket ticket, ublk::detail::control_command& c,
               ublk::detail::deadline until) {
        std::unique_lock lock{driver_->mutex};
        const auto found = flights_.find(ticket);
        if (found == flights_.end()) {
            driver_->complain("a ticket is finished twice");
            return -EINVAL;
        }
        flight& f = found->second;
        if (!std::exchange(f.awaited, true)) {
            driver_->limits[f.command.op] = until - std::chrono::steady_clock::now();
        }
        (void)patiently_wait(driver_->changed, lock, until, [&] {
            driver_->consider(f);
            return f.answer.has_value();
        });
        if (!f.answer) {
            ++f.given_up;
            return ublk::detail::control_pending;
        }
        const int answer = *f.answer;
        c = f.command;
        flights_.erase(found);
        driver_->changed.notify_all();
        return answer;
    }

    void cancel(ublk::detail::control_ticket ticket) {
        const std::lock_guard lock{driver_->mutex};
        flights_.at(ticket).cancelled = true;
        driver_->changed.notify_all();
    }

private:
    std::shared_ptr<state> driver_;
    std::map<ublk::detail::control_ticket, flight> flights_{};
    ublk::detail::control_ticket last_ = 0;
};

class fake_kernel::channel {
public:
    explicit channel(std::shared_ptr<state> d) : driver_{std::move(d)} {
        const std::lock_guard lock{driver_->mutex};
        ++driver_->opened;
        if (++driver_->open_channels != 1) {
            driver_->complain("the channel is opened twice");
        }
    }
    channel(channel&&) noexcept = default;
    ~channel() {
        if (driver_) {
            const std::lock_guard lock{driver_->mutex};
            --driver_->open_channels;
            driver_->stopping = true;
            driver_->advance();
        }
    }

    [[nodiscard]] ublk::detail::mapping map(std::uint64_t offset, std::size_t bytes) const {
        std::unique_lock lock{driver_->mutex};
        if (driver_->map_last_errno != 0 && offset / driver_->stride + 1 == driver_->tags.size()) {
            const std::size_t others = driver_->total() - driver_->info.queue_depth;
            (void)driver_->changed.wait_for(
                lock, 60s, [&] { return driver_->count(slot_state::stage::fetched) == others; });
            ublk::fail(driver_->map_last_errno, "mapping the descriptors", std::nullopt);
        }
        if (driver_->map_errno != 0) {
            ublk::fail(driver_->map_errno, "mapping the descriptors", std::nullopt);
        }
        const std::size_t size =
            driver_->desc_size != 0 ? driver_->desc_size : sizeof(uapi::io_desc);
        if (offset % driver_->stride != 0 || offset / driver_->stride >= driver_->tags.size() ||
            bytes != uapi::cmd_buf_size(driver_->info.queue_depth, size, state::page())) {
            driver_->complain("descriptors are mapped at a wrong place or length");
        }
        return ublk::detail::mapping{bytes,
                                     PROT_READ,
                                     MAP_SHARED,
                                     driver_->memory.get(),
                                     static_cast<off_t>(offset),
                                     "mapping the descriptors"};
    }

    [[nodiscard]] int file() const noexcept { return -1; }
    void close_for_good() noexcept {
        const std::lock_guard lock{driver_->mutex};
        ++driver_->kept_numbers;
    }
    [[nodiscard]] const std::shared_ptr<state>& driver() const { return driver_; }

private:
    std::shared_ptr<state> driver_;
};

class fake_kernel::wakeup {
public:
    void wake() const noexcept {
        const std::lock_guard lock{bell_->mutex};
        bell_->woken = true;
        bell_->wakeup();
    }
    [[nodiscard]] const std::shared_ptr<wakeup_event>& rings() const { return bell_; }

private:
    std::shared_ptr<wakeup_event> bell_ = std::make_shared<wakeup_event>();
};

// The server's loop flattens whatever it calls; out of line this costs a compiler minutes less.
class fake_kernel::port {
public:
    port(const channel& device, const wakeup& wakeup, const ublk::detail::port_needs& needs)
        : driver_{device.driver()}, bell_{wakeup.rings()}, room_{needs.tags} {}
    port(const port&) = delete;
    ~port() {
        const std::lock_guard lock{driver_->mutex};
        bool has_tags = false;
        for (auto& queue : driver_->tags) {
            for (slot_state& s : queue) {
                if (s.to == bell_) {
                    has_tags = has_tags || s.at == slot_state::stage::fetched;
                    driver_->server_left(s);
                }
            }
        }
        driver_->closed_upon_tags += has_tags ? 1 : 0;
        driver_->changed.notify_all();
    }

    [[gnu::noinline]] void fetch(ublk::queue_id q, ublk::tag t, ublk::detail::buffer_address to,
                                 ublk::detail::user_data e) noexcept {
        pending_.push_back({false, q.value(), t.value(), 0, pointer(to), e});
        if (++offered_ > room_) {
            const std::lock_guard lock{driver_->mutex};
            driver_->complain("a port takes more tags than it was made for");
        }
    }
    [[gnu::noinline]] void commit(ublk::queue_id q, ublk::tag t, int result,
                                  ublk::detail::buffer_address to,
                                  ublk::detail::user_data e) noexcept {
        pending_.push_back({true, q.value(), t.value(), result, pointer(to), e});
    }

    // This driver knows one data path and no operations.
    void get_data(ublk::queue_id, ublk::tag, std::uint64_t, ublk::detail::user_data) noexcept {
        unknown();
    }
    void register_buffer(ublk::queue_id, ublk::tag, std::uint16_t) noexcept { unknown(); }
    void unregister_buffer(ublk::queue_id, ublk::tag, std::uint16_t) noexcept { unknown(); }
    void start(const ublk::detail::operation&) noexcept { unknown(); }
    void cancel_operations() noexcept {}

    void listen() noexcept {
        const std::lock_guard lock{bell_->mutex};
        bell_->woken = roused_ = false;
    }

    [[gnu::noinline]] int flush() noexcept {
        const std::lock_guard lock{driver_->mutex};
        driver_->flushes += pending_.empty() ? 0 : 1;
        offload();
        return 0;
    }

    int flush_and_collect() noexcept {
        const std::lock_guard lock{driver_->mutex};
        offload();
        return 0;
    }

    int poll() noexcept { return flush_and_collect(); }
    [[nodiscard]] bool has_events() const noexcept {
        const std::lock_guard lock{bell_->mutex};
        return !bell_->events.empty() || (bell_->woken && !roused_);
    }
    [[nodiscard]] bool ready() const noexcept {
        std::this_thread::yield();  // what is waited for may need this CPU
        return has_events();
    }
    [[nodiscard]] static ublk::detail::deadline now() noexcept {
        return std::chrono::steady_clock::now();
    }

    int wait() noexcept {
        {
            const std::lock_guard lock{driver_->mutex};
            ++driver_->waits;
            offload();
            if (!driver_->wait_codes.empty()) {
                const int code = driver_->wait_codes.front();
                driver_->wait_codes.pop_front();
                return code;
            }
        }
        std::unique_lock lock{bell_->mutex};
        while (bell_->events.empty() && (!bell_->woken || roused_)) {
            bell_->asleep = true;
            --busy_threads;
            bell_->rung.wait(lock, [this] { return !bell_->asleep; });
        }
        return 0;
    }

    template <class Consume>
    void drain(Consume&& consume) noexcept {
        take_events();
        for (const auto& [event, answer] : now_) {
            consume(event, answer);
        }
    }

    [[nodiscard]] unsigned ring_flags() const noexcept { return 0x3000; }

private:
    struct io_command {
        bool commit;
        unsigned queue;
        unsigned tag;
        int result;
        const std::byte* buffer;
        ublk::detail::user_data event;
    };

    [[nodiscard]] static const std::byte* pointer(ublk::detail::buffer_address to) noexcept {
        return reinterpret_cast<const std::byte*>(to.memory);
    }

    [[gnu::noinline]] void unknown() noexcept {
        const std::lock_guard lock{driver_->mutex};
        driver_->complain("a command that this driver does not know");
    }

    [[gnu::noinline]] void take_events() {
        const std::lock_guard lock{bell_->mutex};
        now_.clear();
        now_.swap(bell_->events);
        if (bell_->woken && !roused_) {
            roused_ = true;  // a poll is armed once
            now_.emplace_back(ublk::detail::user_data::wake(), 1);
        }
    }

    void offload() {
        for (const io_command& c : pending_) {
            if (c.queue >= driver_->tags.size() || c.tag >= driver_->info.queue_depth) {
                driver_->complain("no such queue or tag");
                continue;
            }
            slot_state& s = driver_->tags[c.queue][c.tag];
            if (c.buffer == nullptr) {
                driver_->complain("a buffer at address zero");
            }
            if (s.at == slot_state::stage::gone) {
                driver_->complain("a command after the abort");
            }
            const int refusal = c.commit ? take_completed(s, c) : take(s, c);
            if (refusal != 0) {
                bell_->ring(c.event, refusal);
                continue;
            }
            s.at = slot_state::stage::fetched;
            s.buffer = c.buffer;
            s.event = c.event;
        }
        pending_.clear();
        driver_->advance();
    }

    int take(slot_state& s, const io_command& c) {
        if (s.at != slot_state::stage::free) {
            driver_->complain("a tag is fetched twice");
        }
        s.daemon = std::this_thread::get_id();
        s.to = bell_;
        const bool last =
            c.queue + 1 == driver_->tags.size() && c.tag + 1u == driver_->info.queue_depth;
        return last ? -driver_->refuse_fetch : 0;
    }

    int take_completed(slot_state& s, const io_command& c) {
        if (s.at != slot_state::stage::serving) {
            driver_->complain("a commit of a tag that the server does not own");
            return -EBUSY;
        }
        if (s.daemon != std::this_thread::get_id()) {
            driver_->complain("a commit from a thread that did not fetch the tag");
            return -EINVAL;
        }
        if (driver_->refuse_commit != 0) {
            return -std::exchange(driver_->refuse_commit, 0);
        }
        const auto op = uapi::op_of(s.requested.op_flags);
        const bool data = op == uapi::op::read || op == uapi::op::write;
        const std::size_t bytes = std::size_t{s.requested.sectors} * 512;
        if (c.result > 0 ? !data || static_cast<std::size_t>(c.result) != bytes
                         : data && bytes != 0 && c.result == 0) {
            driver_->complain("a result that is neither the full length nor an errno");
        }
        if (op == uapi::op::read && c.result > 0) {
            s.requested.data.assign(c.buffer, c.buffer + c.result);
        }
        s.answer = c.result;
        ++driver_->commits;
        driver_->order.push_back(s.requested);
        return 0;
    }

    std::shared_ptr<state> driver_;
    std::shared_ptr<wakeup_event> bell_;
    std::vector<io_command> pending_{};
    std::vector<std::pair<ublk::detail::user_data, int>> now_{};
    unsigned room_;
    unsigned offered_ = 0;
    bool roused_ = false;
};

inline fake_kernel::control fake_kernel::open_control() const {
    if (driver->control_errno != 0) {
        ublk::fail(driver->control_errno, "opening /dev/ublk-control", std::nullopt);
    }
    return control{driver};
}

inline fake_kernel::channel fake_kernel::open_channel(std::uint32_t id,
                                                      ublk::detail::deadline) const {
    if (driver->open_errno != 0) {
        ublk::fail(driver->open_errno, "opening /dev/ublkc" + std::to_string(id), id);
    }
    return channel{driver};
}

static_assert(ublk::detail::kernel<fake_kernel>);

}  // namespace ublk_test
