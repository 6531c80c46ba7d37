// SPDX-License-Identifier: MIT
#pragma once

// An input of a fuzzer, read as a sequence of decisions. Where it has come to its end everything is
// zero, so that a short input is a whole story as well.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>

namespace ublk_fuzz {

class bytes {
public:
    bytes(const std::uint8_t* data, std::size_t size) noexcept : left_{data, size} {}

    [[nodiscard]] bool empty() const noexcept { return left_.empty(); }
    [[nodiscard]] std::size_t left() const noexcept { return left_.size(); }

    /// The next sizeof(T) bytes as a number, little end first.
    template <class T = std::uint8_t>
    T number() noexcept {
        T value{};
        const std::size_t n = std::min(sizeof value, left_.size());
        if (n != 0) {
            std::memcpy(&value, left_.data(), n);
        }
        left_ = left_.subspan(n);
        return value;
    }

    /// 0 to n - 1, n up to 256.
    unsigned below(unsigned n) noexcept { return number() % n; }

    bool flag() noexcept { return (number() & 1) != 0; }

    /// Copies up to as many bytes as there is room for.
    void copy_to(std::span<std::byte> out) noexcept {
        const std::size_t n = std::min(out.size(), left_.size());
        if (n != 0) {
            std::memcpy(out.data(), left_.data(), n);
        }
        left_ = left_.subspan(n);
    }

private:
    std::span<const std::uint8_t> left_;
};

/// Says what is wrong and ends the program, which is how a fuzzer learns of it.
[[noreturn, gnu::cold]] inline void wrong(const std::string& text) {
    std::fprintf(stderr, "ublk fuzz: %s\n", text.c_str());
    std::fflush(stderr);
    std::abort();
}

inline void expect(bool right, const char* text) {
    if (!right) {
        wrong(text);
    }
}

}  // namespace ublk_fuzz

/// What every target defines; libFuzzer's own name for it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
