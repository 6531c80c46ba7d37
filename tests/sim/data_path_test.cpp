// SPDX-License-Identifier: MIT

// How the simulated driver and its rings treat the bytes of requests: what a server may do with
// them, and what it is told, or blamed for, where it does something else.

#include <ublk/control/control_commands.hpp>
#include <ublk/disk_attributes.hpp>
#include <ublk/sim/batch_wire.hpp>
#include <ublk/sim/client.hpp>
#include <ublk/sim/kernel.hpp>

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace data_path_test {
namespace {

using namespace std::chrono_literals;
namespace sim = ublk::sim;
namespace uapi = ublk::uapi;
namespace feature = ublk::uapi::feature;
using ublk::detail::opcode;
using ublk::uapi::op;

constexpr ublk::queue_id queue_0{0};
constexpr ublk::tag tag_0{0};
constexpr std::uint32_t whole = 4096;

/// A server by hand, of one queue with one tag, on the thread of the test, and a client.
class bare_server {
public:
    bare_server(sim::world& in, std::uint64_t flags, const ublk::detail::port_needs& needs,
                ublk::detail::buffer_address place = {})
        : in_{in}, self_{in.boot()}, commands_{self_, 60s}, place_{place} {
        uapi::dev_info info;
        info.dev_id = uapi::any_dev_id;
        info.nr_hw_queues = info.queue_depth = 1;
        info.max_io_buf_bytes = 8192;
        info.flags = flags | feature::no_auto_part_scan;
        id_ = commands_.add_dev(info).dev_id;
        ublk::disk_attributes disk;
        disk.size = 1u << 20;
        commands_.set_params(id_, ublk::to_params(disk, 8192));
        channel_.emplace(self_.open_channel(id_, self_.now() + 10s));
        port.emplace(*channel_, wakeup, needs);
        port->fetch(queue_0, tag_0, place_, ublk::detail::user_data::io(0, tag_0));
        (void)port->flush_and_collect();
        start();
        disk_.emplace(in_, id_);
    }
    ~bare_server() {
        disk_.reset();
        port.reset();
        channel_.reset();
        in_.settle();
        commands_.stop_dev(id_, 60s);
        commands_.del_dev(id_);
    }

    /// A client asks for the first page.
    sim::bio& ask(op op_code) {
        requested_ = {};
        requested_.op = op_code;
        requested_.sectors = 8;
        requested_.data = data.data();
        disk_->submit(requested_);
        return requested_;
    }
    [[nodiscard]] int answer_to(sim::bio& requested) { return disk_->wait(requested); }

    /// The next event of that token.
    int event(ublk::detail::user_data of) {
        while (!events_.contains(of.raw())) {
            EXPECT_EQ(port->wait(), 0);
            port->drain(
                [this](ublk::detail::user_data t, int answer) { events_[t.raw()] = answer; });
        }
        const int answer = events_.at(of.raw());
        events_.erase(of.raw());
        return answer;
    }
    int request() { return event(ublk::detail::user_data::io(0, tag_0)); }

    void commit(int result) {
        ublk::detail::buffer_address place = place_;
        if (result < 0 && place.registration == 0) {
            place.memory =
                reinterpret_cast<std::uintptr_t>(data.data());  // a read's has to have one
        }
        port->commit(queue_0, tag_0, result, place, ublk::detail::user_data::io(0, tag_0));
        (void)port->flush();
    }

    /// What the ring answers to that.
    int perform(opcode code, std::uint64_t address, std::uint16_t buffer) {
        ublk::detail::operation requested;
        requested.submitted = {.code = code,
                               .file = file.get(),
                               .address = address,
                               .length = whole,
                               .buffer = buffer};
        port->start(requested);
        return event(ublk::detail::user_data::of(requested));
    }

    [[nodiscard]] std::uint32_t flags_of_request() {
        const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
        const ublk::detail::mapping seen = channel_->map(0, page);
        uapi::io_desc words;
        std::memcpy(&words, seen.data(), sizeof words);
        return words.op_flags;
    }

    [[nodiscard]] int bytes_file() const { return channel_->file(); }

    std::vector<std::byte> data = std::vector<std::byte>(whole, std::byte{0x11});
    ublk::fd file{::memfd_create("ublk-sim-test", MFD_CLOEXEC)};
    sim::kernel::wakeup wakeup;
    std::optional<sim::kernel::port> port;

private:
    /// Older kernels look for partitions meanwhile, whatever they are told.
    void start() {
        bool started = false;
        sim::thread starter{[&] {
            commands_.start_dev(id_, self_.process_id());
            started = true;
        }};
        if (!in_.on().since(7, 0)) {
            EXPECT_EQ(request(), 0);
            commit(-EIO);
        }
        while (!started) {
            in_.on().tasks.sleep(1ms);
        }
        starter.join();
    }

    sim::world& in_;
    sim::kernel self_;
    ublk::detail::control_commands<sim::kernel> commands_;
    ublk::detail::buffer_address place_;
    std::uint32_t id_ = 0;
    std::optional<sim::kernel::channel> channel_;
    std::optional<sim::client> disk_;
    sim::bio requested_;
    std::map<std::uint64_t, int> events_;
};

constexpr ublk::detail::port_needs with_places{.tags = 1, .operations = 2, .reserved_buffers = 2};

std::vector<std::string> blame(sim::world& in) {
    return in.take_violations();
}

TEST(zero_copy, pages_are_there_between_their_registration_and_the_end) {
    sim::world in{{.seed = 1}};
    bare_server s{in, feature::support_zero_copy, with_places};
    sim::bio& write = s.ask(op::write);
    EXPECT_EQ(s.request(), 0);
    EXPECT_EQ(s.perform(opcode::write_fixed, 0, 1), -EFAULT) << "nothing is registered there";
    s.port->register_buffer(queue_0, tag_0, 1);
    EXPECT_EQ(s.perform(opcode::write_fixed, 0, 1), 4096);
    EXPECT_EQ(s.perform(opcode::write_fixed, 512, 1), -EFAULT) << "beyond the end";
    EXPECT_EQ(s.perform(opcode::read_fixed, 0, 1), -EFAULT) << "into what is to be written";
    std::vector<std::byte> found(whole);
    EXPECT_EQ(::pread(s.file.get(), found.data(), whole, 0), whole);
    EXPECT_EQ(found, s.data);
    s.port->unregister_buffer(queue_0, tag_0, 1);
    s.commit(whole);
    EXPECT_EQ(s.answer_to(write), 0);

    sim::bio& read = s.ask(op::read);
    EXPECT_EQ(s.request(), 0);
    std::fill(s.data.begin(), s.data.end(), std::byte{0x22});
    s.port->register_buffer(queue_0, tag_0, 0);
    EXPECT_EQ(s.perform(opcode::write_fixed, 0, 0), -EFAULT) << "out of what is to be read";
    EXPECT_EQ(s.perform(opcode::read_fixed, 0, 0), 4096);
    EXPECT_EQ(s.data, found);
    s.port->unregister_buffer(queue_0, tag_0, 0);
    s.commit(whole);
    EXPECT_EQ(s.answer_to(read), 0);
}

TEST(zero_copy, a_request_ends_when_nobody_has_its_pages) {
    sim::world in{{.seed = 2}};
    bare_server s{in, feature::support_zero_copy, with_places};
    sim::bio& write = s.ask(op::write);
    EXPECT_EQ(s.request(), 0);
    s.port->register_buffer(queue_0, tag_0, 1);
    s.commit(whole);
    in.on().tasks.sleep(1s);
    EXPECT_FALSE(write.done);
    s.port->unregister_buffer(queue_0, tag_0, 1);
    (void)s.port->flush();
    EXPECT_EQ(s.answer_to(write), 0);
}

TEST(zero_copy, what_cannot_be_registered_is_refused) {
    sim::world in{{.seed = 3}};
    {
        bare_server s{in, feature::support_zero_copy, with_places};
        sim::bio& write = s.ask(op::write);
        EXPECT_EQ(s.request(), 0);
        s.port->register_buffer(queue_0, tag_0, 2);
        EXPECT_EQ(s.event(ublk::detail::user_data::nobody()), -EINVAL) << "there are two places";
        s.port->register_buffer(queue_0, tag_0, 0);
        s.port->register_buffer(queue_0, tag_0, 0);
        EXPECT_EQ(s.event(ublk::detail::user_data::nobody()), -EBUSY);
        s.port->unregister_buffer(queue_0, tag_0, 1);
        EXPECT_EQ(s.event(ublk::detail::user_data::nobody()), -EINVAL);
        s.port->unregister_buffer(queue_0, tag_0, 0);
        s.commit(whole);
        EXPECT_EQ(s.answer_to(write), 0);
    }
    EXPECT_EQ(blame(in).size(), 3u);
}

/// FETCH and COMMIT with that place for the pages of the next request.
constexpr ublk::detail::buffer_address by_itself(std::uint8_t flags) {
    return {.registration = uapi::auto_buf_reg{.index = 1, .flags = flags}.sqe_addr()};
}

constexpr std::uint64_t auto_flags = feature::auto_buf_reg | feature::support_zero_copy;

TEST(auto_buffer, pages_come_and_go_with_the_request) {
    sim::world in{{.seed = 4}};
    bare_server s{in, auto_flags, with_places, by_itself(0)};
    for (int i = 0; i < 2; ++i) {
        sim::bio& write = s.ask(op::write);
        EXPECT_EQ(s.request(), 0);
        EXPECT_EQ(s.flags_of_request() & uapi::io_flag::need_reg_buf, 0u);
        EXPECT_EQ(s.perform(opcode::write_fixed, 0, 1), 4096);
        s.commit(whole);
        EXPECT_EQ(s.answer_to(write), 0);
    }
}

TEST(auto_buffer, where_it_fails_the_server_is_asked_or_the_request_fails) {
    for (const std::uint8_t flags : {std::uint8_t{0}, uapi::auto_buf_reg_fallback}) {
        sim::world in{{.seed = 5, .often = {.unregistered = 1}}};
        bare_server s{in, auto_flags, with_places, by_itself(flags)};
        sim::bio& write = s.ask(op::write);
        if (flags == 0) {
            (void)s.port->flush_and_collect();
            EXPECT_EQ(s.answer_to(write), EIO);
            continue;
        }
        EXPECT_EQ(s.request(), 0);
        EXPECT_NE(s.flags_of_request() & uapi::io_flag::need_reg_buf, 0u);
        s.port->register_buffer(queue_0, tag_0, 1);
        EXPECT_EQ(s.perform(opcode::write_fixed, 0, 1), 4096);
        s.port->unregister_buffer(queue_0, tag_0, 1);
        s.commit(whole);
        EXPECT_EQ(s.answer_to(write), 0);
    }
}

TEST(user_copy, a_read_without_its_bytes_is_noticed) {
    sim::world in{{.seed = 6}};
    {
        bare_server s{in, feature::user_copy, {.tags = 1}};
        sim::bio& read = s.ask(op::read);
        EXPECT_EQ(s.request(), 0);
        const std::vector<std::byte> half(whole / 2);
        EXPECT_EQ(::pwrite(s.bytes_file(), half.data(), half.size(),
                           static_cast<off_t>(uapi::user_copy_position(0, 0, 0))),
                  whole / 2);
        s.commit(whole);
        EXPECT_EQ(s.answer_to(read), 0);
    }
    const auto found = blame(in);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_NE(found[0].find("without all of its bytes"), std::string::npos);
}

TEST(user_copy, a_write_that_is_overwritten_is_noticed) {
    sim::world in{{.seed = 7}};
    {
        bare_server s{in, feature::user_copy, {.tags = 1}};
        sim::bio& write = s.ask(op::write);
        EXPECT_EQ(s.request(), 0);
        const auto place = static_cast<off_t>(uapi::user_copy_position(0, 0, 0));
        std::vector<std::byte> found(whole);
        EXPECT_EQ(::pread(s.bytes_file(), found.data(), whole, place), whole);
        EXPECT_EQ(found, s.data);
        EXPECT_EQ(::pwrite(s.bytes_file(), "!", 1, place), 1);
        s.commit(whole);
        EXPECT_EQ(s.answer_to(write), 0);
    }
    EXPECT_EQ(blame(in).size(), 1u);
}

TEST(need_get_data, a_write_comes_twice) {
    for (const ublk::kernel_version version :
         {ublk::kernel_version{6, 12}, ublk::kernel_version{7, 3}}) {
        sim::world in{{.seed = 8, .version = version}};
        std::vector<std::byte> mine(whole);
        bare_server s{in, feature::need_get_data, {.tags = 1}};
        sim::bio& write = s.ask(op::write);
        EXPECT_EQ(s.request(), uapi::io_res_need_get_data);
        s.port->get_data(queue_0, tag_0, reinterpret_cast<std::uintptr_t>(mine.data()),
                         ublk::detail::user_data::io(0, tag_0));
        EXPECT_EQ(s.request(), uapi::io_res_ok);
        EXPECT_EQ(mine, s.data);
        s.commit(whole);
        EXPECT_EQ(s.answer_to(write), 0);
    }
}

/// A device of one queue with two tags that nobody has fetched, and what its driver answers.
class bare_device {
public:
    bare_device(sim::world& in, std::uint64_t flags)
        : in_{in}, self_{in.boot()}, commands_{self_, 60s} {
        uapi::dev_info info;
        info.dev_id = uapi::any_dev_id;
        info.nr_hw_queues = 1;
        info.queue_depth = 2;
        info.max_io_buf_bytes = 8192;
        info.flags = flags;
        id_ = commands_.add_dev(info).dev_id;
        channel_.emplace(self_.open_channel(id_, self_.now() + 10s));
        wire.emplace(*channel_, wakeup_, ublk::detail::port_needs{.tags = 2});
    }
    ~bare_device() {
        wire.reset();
        channel_.reset();
        in_.settle();
        commands_.del_dev(id_);
    }

    static constexpr ublk::detail::user_data of_single = ublk::detail::user_data::of_queue(0);

    int prepare(const std::vector<std::uint16_t>& tags, uapi::batch_io header = {}) {
        return batch(tags, header, true);
    }
    int commit(const std::vector<std::uint16_t>& tags) { return batch(tags, {}, false); }

    int answer(ublk::detail::user_data to) {
        int found = 1;
        (void)wire->flush_and_collect();
        wire->drain([&](ublk::detail::user_data t, int code, std::uint32_t) {
            found = t == to ? code : found;
        });
        return found;
    }

    std::optional<sim::kernel::batch_wire> wire;

private:
    int batch(const std::vector<std::uint16_t>& tags, uapi::batch_io header, bool prepares) {
        constexpr auto mine =
            ublk::detail::user_data::batch(ublk::detail::user_data::batch_kind::prepared, 0);
        std::vector<uapi::elem_header> elements;
        for (const std::uint16_t tag : tags) {
            elements.push_back({.tag = tag});
        }
        header.nr_elem = static_cast<std::uint16_t>(tags.size());
        header.elem_bytes = sizeof(uapi::elem_header);
        prepares ? wire->prepare_tags(header, elements.data(), mine)
                 : wire->commit_tags(header, elements.data(), mine);
        return answer(mine);
    }

    sim::world& in_;
    sim::kernel self_;
    ublk::detail::control_commands<sim::kernel> commands_;
    std::uint32_t id_ = 0;
    std::optional<sim::kernel::channel> channel_;
    sim::kernel::wakeup wakeup_;
};

TEST(batches, a_device_with_them_takes_no_commands_of_single_tags) {
    sim::world in{{.seed = 13, .strict = false}};
    bare_device d{in, feature::batch_io | feature::user_copy};
    d.wire->fetch(queue_0, tag_0, {}, d.of_single);
    EXPECT_EQ(d.answer(d.of_single), -EOPNOTSUPP);
    d.wire->commit(queue_0, tag_0, 0, {}, d.of_single);
    EXPECT_EQ(d.answer(d.of_single), -EOPNOTSUPP);
    d.wire->get_data(queue_0, tag_0, 0, d.of_single);
    EXPECT_EQ(d.answer(d.of_single), -EOPNOTSUPP);
    d.wire->commit(queue_0, ublk::tag{2}, 0, {}, d.of_single);
    EXPECT_EQ(d.answer(d.of_single), -EINVAL) << "there is no such tag";
}

TEST(batches, a_device_without_them_takes_none) {
    sim::world in{{.seed = 14, .strict = false}};
    bare_device d{in, feature::user_copy};
    EXPECT_EQ(d.prepare({0, 1}), -EINVAL);
    EXPECT_EQ(d.commit({0}), -EINVAL);
    d.wire->fetch_tags(queue_0, 0, d.of_single);
    EXPECT_EQ(d.answer(d.of_single), -EINVAL);
}

TEST(batches, one_that_fails_takes_no_tag) {
    sim::world in{{.seed = 15, .strict = false}};
    bare_device d{in, feature::batch_io | feature::user_copy};
    EXPECT_EQ(d.prepare({0, 1, 0}), -E2BIG);
    EXPECT_EQ(d.prepare({0, 1}, {.q_id = 1}), -EINVAL);
    EXPECT_EQ(d.prepare({0, 1}, {.flags = uapi::batch_flag::has_buf_addr}), -EINVAL);
    EXPECT_EQ(d.prepare({0, 1}, {.flags = 1u << 5}), -EINVAL);
    EXPECT_EQ(d.prepare({0, 0}), -EINVAL) << "twice the same";
    EXPECT_EQ(d.prepare({0, 1}), 0) << "tag 0 was given back";
    EXPECT_EQ(d.prepare({0}), -EBUSY);
    EXPECT_EQ(d.commit({0, 1}), -EBUSY) << "the server has none";
}

TEST(operations, a_ring_is_not_closed_upon_them) {
    sim::world in{{.seed = 9}};
    {
        bare_server s{in, feature::user_copy, {.tags = 1, .operations = 1}};
        std::int64_t a_day[2] = {86400, 0};
        ublk::detail::operation requested;
        requested.submitted = {.code = opcode::timeout,
                               .address = reinterpret_cast<std::uintptr_t>(a_day),
                               .length = 1};
        s.port->start(requested);
        (void)s.port->flush();
    }
    EXPECT_EQ(blame(in).size(), 1u);
}

TEST(operations, those_that_wait_end_when_they_are_cancelled) {
    sim::world in{{.seed = 10}};
    bare_server s{in, feature::user_copy, {.tags = 1, .operations = 2}};
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    ublk::detail::operation requested;
    requested.submitted = {.code = opcode::poll_add, .file = ends[0], .op_flags = POLLIN};
    s.port->start(requested);
    (void)s.port->flush();
    in.on().tasks.sleep(1s);
    s.port->cancel_operations();
    EXPECT_EQ(s.event(ublk::detail::user_data::of(requested)), -ECANCELED);
    EXPECT_EQ(::write(ends[1], "x", 1), 1);
    s.port->start(requested);
    EXPECT_EQ(s.event(ublk::detail::user_data::of(requested)), POLLIN);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(operations, memory_that_may_not_be_locked_is_not_registered) {
    sim::world in{{.seed = 11, .lockable_bytes = 4096}};
    std::vector<std::byte> memory(8192);
    const iovec buffers[] = {{memory.data(), memory.size()}};
    EXPECT_THROW((bare_server{in, 0, {.tags = 1, .tag_buffers = buffers}}),
                 ublk::detail::setup_refused);
    in.settle();
    EXPECT_EQ(in.forget_devices(), 1u);
}

TEST(wakeup, it_wakes_once_for_each_listening) {
    sim::world in{{.seed = 12}};
    bare_server s{in, feature::user_copy, {.tags = 1}};
    s.wakeup.wake();
    s.wakeup.wake();
    EXPECT_EQ(s.event(ublk::detail::user_data::wake()), 1);
    s.wakeup.wake();
    unsigned more = 0;
    (void)s.port->flush_and_collect();
    s.port->drain([&more](ublk::detail::user_data, int) { ++more; });
    EXPECT_EQ(more, 0u);
    s.port->listen();
    s.wakeup.wake();
    EXPECT_EQ(s.event(ublk::detail::user_data::wake()), 1);
}

}  // namespace
}  // namespace data_path_test
