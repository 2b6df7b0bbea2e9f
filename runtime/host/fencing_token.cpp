#include "runtime/host/fencing_token.hpp"

#include <fstream>
#include <iterator>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

namespace regroup {
namespace {

bool write_whole(const std::filesystem::path& path, std::span<const std::byte> bytes,
                 bool synchronised) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return false;
  bool good = true;
  while (good && !bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    good = written > 0;
    if (good) bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  good = good && (!synchronised || fsync(fd) == 0);
  return close(fd) == 0 && good;
}

std::optional<Buffer> read_whole(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return {};
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) return {};
  return Buffer(std::as_bytes(std::span(text)));
}

}  // namespace

FencingTokens::FencingTokens(std::filesystem::path directory, std::string run, Readers readers)
    : directory_(std::move(directory)), run_(std::move(run)), readers_(readers) {}

std::filesystem::path FencingTokens::token_of(std::uint64_t epoch) const {
  return directory_ / fmt::format("{}-{}.view", run_, epoch);
}

bool FencingTokens::superseded(Epoch epoch) const {
  std::error_code error;
  return std::filesystem::exists(token_of(epoch.value + 1), error);
}

// The content is whole before the name appears, and the name appears once.
FenceAnswer FencingTokens::take(const FenceRequest& request) const {
  std::error_code ignored;
  std::filesystem::create_directories(directory_, ignored);
  const auto token = token_of(request.epoch.value);
  const auto draft = directory_ / fmt::format(".{}-{}.{}", run_, request.epoch.value, getpid());
  if (write_whole(draft, request.content.view(), readers_ == Readers::kOtherNodes)) {
    (void)link(draft.c_str(), token.c_str());
  }
  std::filesystem::remove(draft, ignored);
  return {request.epoch, read_whole(token)};
}

}  // namespace regroup
