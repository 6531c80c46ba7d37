// SPDX-License-Identifier: MIT
// How AddressSanitizer is to run under libFuzzer, where ASAN_OPTIONS say nothing else. A simulation
// frees megabytes in a millisecond: with the quarantine of 256 MiB that is the default, every
// allocation is memory that the kernel has to clear first.

extern "C" const char* __asan_default_options();

extern "C" const char* __asan_default_options() {
    return "quarantine_size_mb=8:malloc_context_size=8";
}
