// SPDX-License-Identifier: MIT
#pragma once

// Programs of the guest, each bounded in time: a test that hangs says nothing.

#include <gtest/gtest.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <ostream>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ublk_test {

/// Longer than anything that works takes, even under emulation on a busy machine.
inline constexpr std::chrono::milliseconds patience = std::chrono::seconds{40};

/// The same for whole programs.
inline constexpr std::chrono::milliseconds long_patience = std::chrono::minutes{5};

/// A process that dumps core waits for all of its threads, and one of them may wait for a disk that
/// this very process serves: a failed assertion would never end. Without a dump the death of the
/// queue threads fails the disk, and everybody goes.
inline const bool dies_at_once = ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0;

/// What became of a program.
struct finished {
    std::string command;
    int exit_code = -1;    ///< 128 + number where a signal ended it, -1 where it never started
    bool in_time = false;  ///< false: killed at the deadline
    std::string output;    ///< stdout and stderr as they came

    [[nodiscard]] bool ok() const noexcept { return in_time && exit_code == 0; }
};

inline std::ostream& operator<<(std::ostream& out, const finished& done) {
    constexpr std::size_t shown = 8000;
    const std::size_t cut = done.output.size() > shown ? done.output.size() - shown : 0;
    out << "    $ " << done.command << '\n'
        << (done.in_time ? "ended with " : "killed at its deadline, ") << done.exit_code << '\n'
        << (cut != 0 ? "[...]" : "") << done.output.substr(cut);
    return out;
}

/// For ASSERT_TRUE and EXPECT_TRUE: what a failed program printed belongs into the log.
[[nodiscard]] inline testing::AssertionResult succeeded(const finished& done) {
    return (done.ok() ? testing::AssertionSuccess() : testing::AssertionFailure()) << done;
}

/// Asks again and again until `condition` holds; false when `limit` has passed.
template <class Condition>
[[nodiscard]] bool eventually(Condition&& condition, std::chrono::milliseconds limit = patience) {
    const auto until = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() >= until) {
            return false;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    return true;
}

/// A whole file, or of sysfs and procfs what one reading gives; empty where there is none.
[[nodiscard]] inline std::string read_text(const std::string& path) {
    std::ifstream file{path};
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

/// The same without the newline at its end.
[[nodiscard]] inline std::string read_line(const std::string& path) {
    std::string text = read_text(path);
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) {
        text.pop_back();
    }
    return text;
}

[[nodiscard]] inline bool write_text(const std::string& path, const std::string& text) {
    std::ofstream file{path};
    file << text << std::flush;
    return file.good();
}

namespace detail {

/// A child process with both its outputs in one pipe, leader of a process group of its own.
class child {
public:
    explicit child(const std::vector<std::string>& arguments) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) {
            return;
        }
        output_ = ends[0];
        spawn(arguments, ends[1]);
        ::close(ends[1]);
    }
    child(const child&) = delete;
    child& operator=(const child&) = delete;
    ~child() { ::close(output_); }

    [[nodiscard]] bool started() const noexcept { return pid_ > 0; }
    [[nodiscard]] int why_not() const noexcept { return why_not_; }

    /// Appends what there is to read, waiting a moment for it.
    void read_into(std::string& text) {
        pollfd ready{output_, POLLIN, 0};
        if (ended_output_) {
            std::this_thread::sleep_for(std::chrono::milliseconds{1});
        } else if (::poll(&ready, 1, 20) > 0) {
            char buffer[4096];
            const ssize_t got = ::read(output_, buffer, sizeof buffer);
            if (got > 0) {
                text.append(buffer, static_cast<std::size_t>(got));
            }
            ended_output_ = got == 0;
        }
    }

    [[nodiscard]] bool output_waits() const {
        pollfd ready{output_, POLLIN, 0};
        return !ended_output_ && ::poll(&ready, 1, 0) > 0 && (ready.revents & POLLIN) != 0;
    }

    [[nodiscard]] bool gone() {
        int status = 0;
        if (exit_code_ < 0 && ::waitpid(pid_, &status, WNOHANG) == pid_) {
            exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        return exit_code_ >= 0;
    }

    void kill() const noexcept { ::kill(-pid_, SIGKILL); }
    [[nodiscard]] int exit_code() const noexcept { return exit_code_; }

private:
    void spawn(const std::vector<std::string>& arguments, int output) {
        std::vector<char*> words;
        for (const std::string& argument : arguments) {
            words.push_back(const_cast<char*>(argument.c_str()));
        }
        words.push_back(nullptr);
        posix_spawn_file_actions_t files;
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&files, output, 1);
        posix_spawn_file_actions_adddup2(&files, output, 2);
        posix_spawnattr_t attributes;
        posix_spawnattr_init(&attributes);
        sigset_t none;
        ::sigemptyset(&none);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setpgroup(&attributes, 0);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
        why_not_ = ::posix_spawnp(&pid_, words[0], &files, &attributes, words.data(), ::environ);
        if (why_not_ != 0) {
            pid_ = -1;
        }
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&files);
    }

    pid_t pid_ = -1;
    int output_ = -1;
    int why_not_ = EMFILE;
    int exit_code_ = -1;
    bool ended_output_ = false;
};

}  // namespace detail

/// Runs a program to its end; at the deadline it is killed with all its children. A process that
/// even then does not end (one in the kernel, waiting for a disk that does not answer) is left.
[[nodiscard]] inline finished run(const std::vector<std::string>& arguments,
                                  std::chrono::milliseconds limit = long_patience) {
    finished done;
    for (const std::string& argument : arguments) {
        done.command += (done.command.empty() ? "" : " ") + argument;
    }
    detail::child program{arguments};
    if (!program.started()) {
        done.output = "cannot start: " + std::string{std::strerror(program.why_not())};
        return done;
    }
    const auto until = std::chrono::steady_clock::now() + limit;
    done.in_time = true;
    while (!program.gone() && done.in_time) {
        program.read_into(done.output);
        done.in_time = std::chrono::steady_clock::now() < until;
    }
    if (!program.gone()) {
        program.kill();
        (void)eventually([&program] { return program.gone(); });
    } else {
        done.in_time = true;
    }
    while (program.output_waits()) {
        program.read_into(done.output);
    }
    done.exit_code = program.exit_code();
    return done;
}

/// The same for a script; it ends at the first command that fails.
[[nodiscard]] inline finished sh(const std::string& script,
                                 std::chrono::milliseconds limit = long_patience) {
    return run({"sh", "-e", "-c", script}, limit);
}

}  // namespace ublk_test
