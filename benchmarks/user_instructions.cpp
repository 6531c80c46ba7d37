// SPDX-License-Identifier: MIT
//
// The library's own share of a request: the loop of a queue thread as it is, down to the rings that
// it shares with the kernel, on a kernel that is pretended. What liburing does by system calls is
// defined here instead, and answers each command in the next turn. Run it under callgrind
// (user_instructions.sh), which counts the instructions of the loop and what it calls.
#include <ublk/backends/file.hpp>
#include <ublk/backends/memory.hpp>
#include <ublk/backends/null.hpp>
#include <ublk/data/batch_port.hpp>
#include <ublk/data/data_paths.hpp>
#include <ublk/data/queue_loop.hpp>
#include <ublk/kernel/linux_batch_wire.hpp>
#include <ublk/kernel/linux_port.hpp>
#include <ublk/policy/batch_policy.hpp>

#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using namespace ublk;

constexpr unsigned depth = 64;
constexpr std::uint32_t sectors = 8;

/// A driver and an io_uring with one queue, as far as the cases below need them.
struct pretended {
    std::array<io_uring_sqe, 512> submissions{};
    std::array<io_uring_cqe, 1024> completions{};
    unsigned taken = 0;   ///< head of the submissions
    unsigned unused = 0;  ///< their tail, which liburing sets as it hands them over
    unsigned reaped = 0;  ///< head of the completions
    unsigned posted = 0;
    std::array<unsigned, 8> words{};  ///< what else is shared
    io_uring_buf_ring* buffers = nullptr;
    unsigned buffers_mask = 0;
    unsigned buffers_used = 0;

    std::byte* descriptors = nullptr;
    bool writes = false;
    bool asks_for_data = false;  ///< for writes the driver first asks where their bytes belong
    bool batches = false;
    unsigned turns = 0;
    std::uint64_t served = 0;
    std::uint64_t telling = 0;  ///< user_data of the batches' command that tells of requests
    std::array<std::uint16_t, depth> ready{};  ///< tags of which it is to tell
    unsigned ready_count = 0;

    void post(std::uint64_t user, int result, unsigned flags = 0) noexcept {
        io_uring_cqe& next = completions[posted++ % completions.size()];
        next.user_data = user;
        next.res = result;
        next.flags = flags;
    }

    /// The tag's next request.
    void describe(unsigned tag) noexcept {
        const uapi::io_desc next{
            static_cast<std::uint32_t>(writes ? uapi::op::write : uapi::op::read), sectors,
            std::uint64_t{tag} * sectors, 0};
        std::memcpy(descriptors + tag * sizeof next, &next, sizeof next);
    }

    [[nodiscard]] bool over() const noexcept { return turns == 0; }

    void offered(const io_uring_sqe& sqe, bool answers) noexcept {
        uapi::io_cmd command;
        std::memcpy(&command, reinterpret_cast<const std::byte*>(&sqe) + 48, sizeof command);
        served += answers ? 1 : 0;
        describe(command.tag);
        post(sqe.user_data, over()                    ? uapi::io_res_abort
                            : asks_for_data && writes ? uapi::io_res_need_get_data
                                                      : uapi::io_res_ok);
    }

    void offered_many(const io_uring_sqe& sqe, bool answers) noexcept {
        uapi::batch_io command;
        std::memcpy(&command, reinterpret_cast<const std::byte*>(&sqe) + 48, sizeof command);
        for (unsigned i = 0; i < command.nr_elem; ++i) {
            uapi::elem_header element;
            std::memcpy(&element,
                        reinterpret_cast<const std::byte*>(sqe.addr) + i * command.elem_bytes,
                        sizeof element);
            describe(element.tag);
            ready[ready_count++] = element.tag;
        }
        served += answers ? command.nr_elem : 0;
        post(sqe.user_data, answers ? command.nr_elem * command.elem_bytes : 0);
    }

    void take(const io_uring_sqe& sqe) noexcept {
        if (sqe.opcode != IORING_OP_URING_CMD) {
            if (sqe.opcode != IORING_OP_POLL_ADD && sqe.opcode != IORING_OP_ASYNC_CANCEL) {
                post(sqe.user_data, static_cast<int>(sqe.len));
            }
            return;
        }
        switch (static_cast<std::uint32_t>(sqe.off)) {
        case uapi::io::fetch_req:
        case uapi::io::commit_and_fetch_req:
            return offered(sqe, static_cast<std::uint32_t>(sqe.off) != uapi::io::fetch_req);
        case uapi::io::need_get_data:
            return post(sqe.user_data, over() ? uapi::io_res_abort : uapi::io_res_ok);
        case uapi::io::prep_io_cmds:
        case uapi::io::commit_io_cmds:
            return offered_many(sqe, static_cast<std::uint32_t>(sqe.off) != uapi::io::prep_io_cmds);
        case uapi::io::fetch_io_cmds:
            telling = sqe.user_data;
            return;
        default:  // commands on buffers, which are silent
            return;
        }
    }

    void tell() noexcept {
        if (over()) {
            post(telling, uapi::io_res_abort);
            return;
        }
        const io_uring_buf& into = buffers->bufs[buffers_used++ & buffers_mask];
        std::memcpy(reinterpret_cast<void*>(into.addr), ready.data(),
                    ready_count * sizeof ready[0]);
        post(telling, static_cast<int>(std::exchange(ready_count, 0) * sizeof ready[0]),
             IORING_CQE_F_MORE | IORING_CQE_F_BUFFER |
                 static_cast<unsigned>(into.bid) << IORING_CQE_BUFFER_SHIFT);
    }

    int enter(io_uring& ring, bool waits) noexcept {
        unused = ring.sq.sqe_tail;
        turns -= waits ? 1 : 0;
        while (taken != unused) {
            take(submissions[taken++ % submissions.size()]);
        }
        if (waits && batches) {
            tell();
        }
        ring.sq.sqe_head = taken;
        return 0;
    }
};

pretended now;

}  // namespace

extern "C" {

int io_uring_queue_init_params(unsigned entries, io_uring* ring, io_uring_params*) {
    if (entries > now.submissions.size()) {
        return -EINVAL;
    }
    ring->sq.khead = &now.taken;
    ring->sq.ktail = &now.unused;
    ring->sq.kflags = &now.words[0];
    ring->sq.kdropped = &now.words[1];
    ring->sq.sqes = now.submissions.data();
    ring->sq.ring_entries = static_cast<unsigned>(now.submissions.size());
    ring->sq.ring_mask = ring->sq.ring_entries - 1;
    ring->cq.khead = &now.reaped;
    ring->cq.ktail = &now.posted;
    ring->cq.kflags = &now.words[2];
    ring->cq.koverflow = &now.words[3];
    ring->cq.cqes = now.completions.data();
    ring->cq.ring_entries = static_cast<unsigned>(now.completions.size());
    ring->cq.ring_mask = ring->cq.ring_entries - 1;
    ring->flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    return 0;
}
void io_uring_queue_exit(io_uring*) {}
int io_uring_register_ring_fd(io_uring*) {
    return 0;
}
int io_uring_register_files(io_uring*, const int*, unsigned) {
    return 0;
}
int io_uring_register_buffers(io_uring*, const iovec*, unsigned) {
    return 0;
}
int io_uring_register_buffers_sparse(io_uring*, unsigned) {
    return 0;
}
int io_uring_register_eventfd(io_uring*, int) {
    return 0;
}
int io_uring_register_buf_ring(io_uring*, io_uring_buf_reg* given, unsigned) {
    now.buffers = reinterpret_cast<io_uring_buf_ring*>(given->ring_addr);
    now.buffers_mask = given->ring_entries - 1;
    return 0;
}
int io_uring_submit(io_uring* ring) {
    return now.enter(*ring, false);
}
int io_uring_submit_and_get_events(io_uring* ring) {
    return now.enter(*ring, false);
}
int io_uring_submit_and_wait(io_uring* ring, unsigned) {
    return now.enter(*ring, true);
}
int io_uring_submit_and_wait_timeout(io_uring* ring, io_uring_cqe**, unsigned, __kernel_timespec*,
                                     sigset_t*) {
    return now.enter(*ring, true);
}
int __io_uring_sqring_wait(io_uring*) {
    return 0;
}

}  // extern "C"

namespace {

template <class Path, bool Batches = false, class Backend>
std::uint64_t run(Backend& backend, bool writes, unsigned turns) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    detail::mapping descriptors{page,    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0,
                                "memory"};
    now.descriptors = descriptors.data();
    now.writes = writes;
    now.turns = turns;
    now.asks_for_data = Path::id == data_path::get_data;
    now.batches = Batches;
    const detail::linux_channel device{fd{::memfd_create("pages", MFD_CLOEXEC)}};
    if (::ftruncate(device.file(), off_t{1} << 40) != 0) {
        std::abort();
    }
    std::vector<detail::queue> queues;
    queues.emplace_back(queue_id{0}, std::move(descriptors), sizeof(uapi::io_desc),
                        detail::tag_buffers{depth, page, {}}, depth, device.file());
    const queue_id mine[] = {queue_id{0}};
    const detail::linux_wakeup wakeup;
    using port =
        std::conditional_t<Batches,
                           detail::batch_port<detail::linux_batch_wire, has_tag_buffers(Path::id)>,
                           detail::linux_port>;
    port talk{device, wakeup,
              detail::port_needs{.tags = depth,
                                 .operations = depth,
                                 .queues = mine,
                                 .depth = depth,
                                 .batch_flags = uapi::batch_flag::has_buf_addr}};
    using policy = std::conditional_t<Batches, batch_io, per_wakeup>;
    detail::queue_loop<Backend, policy, port, true, Path> loop{backend, talk, queues};
    if (loop.fetch_all() != 0 || loop.run() != 0) {
        std::abort();
    }
    return now.served;
}

std::uint64_t run(std::string_view loop_name, bool writes, unsigned turns) {
    if (loop_name == "null.copy" || loop_name == "null.copy_batches") {
        backends::null disk{1u << 30};
        return loop_name == "null.copy" ? run<detail::paths::copy>(disk, writes, turns)
                                        : run<detail::paths::copy, true>(disk, writes, turns);
    }
    if (loop_name.starts_with("memory.")) {
        backends::memory disk{1u << 20};
        return loop_name == "memory.copy" ? run<detail::paths::copy>(disk, writes, turns)
               : loop_name == "memory.copy_batches"
                   ? run<detail::paths::copy, true>(disk, writes, turns)
               : loop_name == "memory.user_copy"
                   ? run<detail::paths::user_copy>(disk, writes, turns)
                   : run<detail::paths::get_data>(disk, writes, turns);
    }
    char name[] = "/dev/shm/ublk-instructions-XXXXXX";  // where a write at once is to be had
    const fd made{::mkstemp(name)};
    if (!made || ::ftruncate(made.get(), 1 << 20) != 0) {
        std::abort();
    }
    const bool at_once = loop_name == "file.at_once";
    backends::file disk{name, {.at_once = at_once}};
    ::unlink(name);
    return loop_name == "file.copy" || at_once ? run<detail::paths::copy>(disk, writes, turns)
           : loop_name == "file.fixed_copy"    ? run<detail::paths::fixed_copy>(disk, writes, turns)
           : loop_name == "file.zero_copy"     ? run<detail::paths::zero_copy>(disk, writes, turns)
                                           : run<detail::paths::auto_buffer>(disk, writes, turns);
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
