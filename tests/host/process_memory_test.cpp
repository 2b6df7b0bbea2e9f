#include "runtime/host/process_memory.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace regroup {
namespace {

std::uint64_t address_of(const void* memory) {
  return reinterpret_cast<std::uintptr_t>(memory);
}

// The exit status of a child that runs `body`.
template <class Body>
int status_of_child(Body body) {
  const pid_t child = fork();
  if (child == 0) _exit(body() ? 0 : 1);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Where the system forbids it, callers have another way.
bool is_forbidden_here() {
  std::array<std::byte, 1> from{}, into{};
  return !read_process_memory(getpid(), address_of(from.data()), into);
}

TEST(ProcessMemory, IsReadAsItIsThereNow) {
  if (is_forbidden_here()) GTEST_SKIP() << "the system forbids it";
  const std::size_t bytes = (std::size_t{3} << 20) + 17;
  auto* const shared = static_cast<std::byte*>(
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  std::vector<std::byte> own(bytes, std::byte{1});  // the child's copy of it does not change
  const pid_t parent = getpid();
  for (std::size_t i = 0; i < bytes; ++i) shared[i] = static_cast<std::byte>(i * 7);
  const int status = status_of_child([&] {
    std::ranges::fill(own, std::byte{2});
    std::vector<std::byte> into(bytes);
    if (!read_process_memory(parent, address_of(shared), into)) return false;
    if (!std::equal(into.begin(), into.end(), shared)) return false;
    if (!read_process_memory(parent, address_of(own.data()), into)) return false;
    return std::ranges::all_of(into, [](std::byte byte) { return byte == std::byte{1}; });
  });
  EXPECT_EQ(status, 0);
  munmap(shared, bytes);
}

TEST(ProcessMemory, ThatIsNotThereIsNoMemory) {
  std::array<std::byte, 16> into{};
  EXPECT_FALSE(read_process_memory(getpid(), 0, into));
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  auto* const two = static_cast<std::byte*>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(two, MAP_FAILED);
  munmap(two + page, page);
  std::vector<std::byte> both(2 * page);
  EXPECT_FALSE(read_process_memory(getpid(), address_of(two), both)) << "the second page is none";
  munmap(two, page);
}

TEST(ProcessMemory, OfAProcessThatHasEndedIsNoMemory) {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  std::array<std::byte, 16> into{};
  EXPECT_FALSE(read_process_memory(child, address_of(into.data()), into));
}

TEST(ProcessMemory, DomainIsThatOfTheHost) {
  const std::uint64_t own = own_memory_domain();
  EXPECT_EQ(own, own_memory_domain());
  EXPECT_EQ(status_of_child([own] { return own_memory_domain() == own; }), 0);
}

}  // namespace
}  // namespace regroup
