// SPDX-License-Identifier: MIT
//
// The library's own share of a request: the loop of a queue thread on a port that answers at once,
// without a kernel. Run it under callgrind (user_instructions.sh), which counts the instructions of
// the loop and what it calls.
#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/batch_policy/driver_batches.hpp>
#include <ublk/batch_policy/per_wakeup.hpp>
#include <ublk/batch_port.hpp>
#include <ublk/data_path/auto_buffer.hpp>
#include <ublk/data_path/fixed_copy.hpp>
#include <ublk/data_path/lend.hpp>
#include <ublk/data_path/user_copy.hpp>
#include <ublk/data_path/zero_copy.hpp>
#include <ublk/server.hpp>

#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace ublk;

constexpr unsigned depth = 64;
constexpr std::uint32_t sectors = 8;

/// Writes submissions as a ring does, and answers each in the next turn.
class instant_port {
public:
    instant_port(std::byte* descriptors, bool writes, unsigned turns) noexcept
        : descriptors_{descriptors}, turns_{turns}, writes_{writes} {}

    bool asks_for_data = false;  ///< writes first ask where their bytes belong

    void fetch(queue_id q, tag t, buffer_address at, token e) noexcept { hand(q, t, 0, at, e); }
    void commit(queue_id q, tag t, int result, buffer_address at, token e) noexcept {
        hand(q, t, result, at, e);
        ++served;
    }
    void get_data(queue_id q, tag t, std::uint64_t memory, token e) noexcept {
        put(io_command(q, t, 0, memory), 0);
        coming_.push_back({e, 0});
    }
    void register_buffer(queue_id q, tag t, std::uint16_t index) noexcept {
        put(io_command(q, t, 0, index), 0);
    }
    void unregister_buffer(queue_id q, tag t, std::uint16_t index) noexcept {
        put(io_command(q, t, 0, index), 0);
    }
    void start(const operation& asked) noexcept {
        put(uapi::io_cmd{}, 0);
        std::memcpy(&sqes_[(tail_ - 1) % sqes_.size()], &asked.what, 32);
        coming_.push_back({token::of(asked), static_cast<int>(asked.what.length)});
    }
    void cancel_operations() noexcept {}
    void listen() noexcept {}
    int flush() noexcept { return 0; }
    int flush_and_collect() noexcept { return 0; }
    int wait() noexcept {
        if (turns_-- == 0) {
            for (event& each : coming_) {
                each.answer = uapi::io_res_abort;
            }
        }
        now_.swap(coming_);
        coming_.clear();
        return 0;
    }
    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        for (const event& each : now_) {
            consume(each.t, each.answer);
        }
        now_.clear();
    }

    std::uint64_t served = 0;

private:
    struct event {
        token t{0};
        int answer = 0;
    };

    [[gnu::always_inline]] void put(const uapi::io_cmd& asked, std::uint64_t address) noexcept {
        io_uring_sqe& sqe = sqes_[tail_++ % sqes_.size()];
        std::memset(static_cast<void*>(&sqe), 0, 48);
        sqe.addr = address;
        std::memcpy(reinterpret_cast<std::byte*>(&sqe) + 48, &asked, sizeof asked);
    }
    [[gnu::always_inline]] void hand(queue_id q, tag t, int result, buffer_address at,
                                     token e) noexcept {
        put(io_command(q, t, result, at.memory), at.registration);
        const uapi::io_desc next{
            static_cast<std::uint32_t>(writes_ ? uapi::op::write : uapi::op::read), sectors,
            std::uint64_t{t.value()} * sectors, 0};
        std::memcpy(descriptors_ + t.value() * sizeof next, &next, sizeof next);
        coming_.push_back({e, asks_for_data && writes_ ? uapi::io_res_need_get_data : 0});
    }

    struct events : std::array<event, 4 * depth> {
        std::size_t count = 0;
        [[gnu::always_inline]] void push_back(event e) noexcept { (*this)[count++] = e; }
        void clear() noexcept { count = 0; }
        event* end() noexcept { return data() + count; }
        event* begin() noexcept { return data(); }
        void swap(events& other) noexcept { std::swap(*this, other); }
    };

    std::byte* descriptors_;
    unsigned turns_;
    bool writes_;
    unsigned tail_ = 0;
    std::array<io_uring_sqe, 256> sqes_{};
    events coming_;
    events now_;
};

struct instant_channel {
    std::byte* descriptors;
    bool writes;
};

/// The same in the driver's batches.
class instant_wire {
public:
    instant_wire(const instant_channel& device, unsigned turns, const port_needs&) noexcept
        : device_{device}, turns_{turns} {}

    void prepare_tags(const uapi::batch_io& what, const void* tags, token) { hand(what, tags); }
    void commit_tags(const uapi::batch_io& what, const void* tags, token t) {
        hand(what, tags);
        committed_ = t;
        bytes_ = what.nr_elem * what.elem_bytes;
        served += what.nr_elem;
    }
    void fetch_tags(queue_id, std::uint16_t, token t) noexcept { fetched_ = t; }
    [[nodiscard]] std::span<const std::uint16_t> tags(std::uint16_t, int answer,
                                                      std::uint32_t) const noexcept {
        return {tags_.data(), answer > 0 ? count_ : 0};
    }
    void give_back(std::uint16_t, int, std::uint32_t) noexcept { count_ = 0; }
    [[nodiscard]] static bool goes_on(std::uint32_t event) noexcept { return event != 0; }

    void register_buffer(queue_id, tag, std::uint16_t) noexcept {}
    void unregister_buffer(queue_id, tag, std::uint16_t) noexcept {}
    void start(const operation&) noexcept {}
    void cancel_operations() noexcept {}
    void listen() noexcept {}
    int flush() noexcept { return 0; }
    int flush_and_collect() noexcept { return 0; }
    int wait(unsigned) noexcept {
        waited_ = true;
        return 0;
    }
    template <class Consume>
    [[gnu::always_inline]] void drain(Consume&& consume) noexcept {
        if (bytes_ != 0) {
            consume(committed_, std::exchange(bytes_, 0), 0u);
        }
        if (std::exchange(waited_, false)) {
            const bool goes_on = turns_-- != 0;
            consume(fetched_, goes_on ? static_cast<int>(2 * count_) : uapi::io_res_abort,
                    goes_on ? 1u : 0u);
        }
    }

    static inline std::uint64_t served = 0;

private:
    void hand(const uapi::batch_io& what, const void* tags) noexcept {
        for (unsigned i = 0; i < what.nr_elem; ++i) {
            uapi::elem_header element;
            std::memcpy(&element, static_cast<const std::byte*>(tags) + i * what.elem_bytes,
                        sizeof element);
            const uapi::io_desc next{
                static_cast<std::uint32_t>(device_.writes ? uapi::op::write : uapi::op::read),
                sectors, std::uint64_t{element.tag} * sectors, 0};
            std::memcpy(device_.descriptors + element.tag * sizeof next, &next, sizeof next);
            tags_[count_++] = element.tag;
        }
    }

    instant_channel device_;
    unsigned turns_;
    bool waited_ = false;
    std::array<std::uint16_t, depth> tags_{};
    std::size_t count_ = 0;
    token fetched_{0};
    token committed_{0};
    int bytes_ = 0;
};

template <class Path, class Backend, bool Batches = false>
std::uint64_t run(Backend& backend, bool writes, unsigned turns) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    mapping descriptors{page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0, "memory"};
    std::byte* const words = descriptors.data();
    const int file = static_cast<int>(::memfd_create("pages", MFD_CLOEXEC));
    if (::ftruncate(file, off_t{1} << 40) != 0) {
        std::abort();
    }
    std::vector<queue> queues;
    queues.emplace_back(queue_id{0}, std::move(descriptors), sizeof(uapi::io_desc),
                        buffers{depth, page, pages::standard, false}, depth, file);
    if constexpr (Batches) {
        const queue_id mine[] = {queue_id{0}};
        using port_type = batch_port<instant_wire, has_tag_buffers(Path::id)>;
        port_type port{instant_channel{words, writes}, turns,
                       port_needs{.tags = depth, .queues = mine, .depth = depth}};
        server<Backend, driver_batches, port_type, true, Path> loop{backend, port, queues};
        if (loop.fetch_all() != 0 || loop.run() != 0) {
            std::abort();
        }
        return instant_wire::served;
    }
    instant_port port{words, writes, turns};
    port.asks_for_data = Path::id == data_path::lend;
    server<Backend, per_wakeup, instant_port, true, Path> loop{backend, port, queues};
    if (loop.fetch_all() != 0 || loop.run() != 0) {
        std::abort();
    }
    ::close(file);
    return port.served;
}

std::uint64_t run(std::string_view which, bool writes, unsigned turns) {
    if (which == "null.copy") {
        backends::null disk{1u << 30};
        return run<paths::copy>(disk, writes, turns);
    }
    if (which == "null.copy_batches") {
        backends::null disk{1u << 30};
        return run<paths::copy, backends::null, true>(disk, writes, turns);
    }
    if (which == "memory.copy_batches") {
        backends::memory disk{1u << 20};
        return run<paths::copy, backends::memory, true>(disk, writes, turns);
    }
    if (which.starts_with("memory.")) {
        backends::memory disk{1u << 20};
        return which == "memory.copy"        ? run<paths::copy>(disk, writes, turns)
               : which == "memory.user_copy" ? run<paths::user_copy>(disk, writes, turns)
                                             : run<paths::lend>(disk, writes, turns);
    }
    char name[] = "/tmp/ublk-instructions-XXXXXX";
    const fd made{::mkstemp(name)};
    if (!made || ::ftruncate(made.get(), 1 << 20) != 0) {
        std::abort();
    }
    const bool at_once = which == "file.at_once";
    backends::file disk{name, {.at_once = at_once}};
    ::unlink(name);
    return which == "file.copy" || at_once ? run<paths::copy>(disk, writes, turns)
           : which == "file.fixed_copy"    ? run<paths::fixed_copy>(disk, writes, turns)
           : which == "file.zero_copy"     ? run<paths::zero_copy>(disk, writes, turns)
                                           : run<paths::auto_buffer>(disk, writes, turns);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "usage: user_instructions BACKEND.PATH read|write TURNS\n");
        return 2;
    }
    const auto turns = static_cast<unsigned>(std::strtoul(argv[3], nullptr, 10));
    std::printf("%llu\n", static_cast<unsigned long long>(
                              run(argv[1], std::string_view{argv[2]} == "write", turns)));
}
