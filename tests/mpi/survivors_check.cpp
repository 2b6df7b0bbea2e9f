// How launching deals with deaths, on real ranks and without the rest of a run. This program starts
// itself as four ranks, some of which kill themselves. With `survive` the others must live on to
// leave a file each, mpirun must end and say nothing of the deaths; without it they must be ended
// before that. An mpirun that stays although all is over must be ended, too. Its argument, if it
// has one, is the recovery backend that is to be launched.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <unistd.h>

#include "runtime/host/launch_output.hpp"
#include "runtime/host/launcher.hpp"
#include "runtime/host/mpi_session.hpp"

namespace regroup {
namespace {

constexpr std::uint32_t kRanks = 4;
constexpr auto kLook = std::chrono::milliseconds(10);
constexpr auto kRankSecondsMax = std::chrono::seconds(60);
// Longer than mpirun takes to end ranks after one died, 1 s.
constexpr auto kLifeAfterDeath = std::chrono::seconds(3);

std::filesystem::path file_of(const std::filesystem::path& folder, const char* what,
                              std::uint32_t rank) {
  return folder / (what + std::to_string(rank));
}

void leave(const std::filesystem::path& file) {
  std::ofstream(file) << "here\n";
}

int count(const std::filesystem::path& folder, const char* what) {
  int found = 0;
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    found += std::filesystem::exists(file_of(folder, what, rank)) ? 1 : 0;
  }
  return found;
}

bool is_in(const std::string& victims, std::uint32_t rank) {
  return victims.find(static_cast<char>('0' + rank)) != std::string::npos;
}

RecoveryChoice choice_of(const char* text) {
  return parse_recovery_choice(text).value_or(RecoveryChoice::kAuto);
}

// survivors_check FOLDER VICTIMS ENDING RECOVERY, as one of the ranks.
int be_a_rank(const std::filesystem::path& folder, const std::string& victims,
              const std::string& ending, const std::string& recovery) {
  using Clock = std::chrono::steady_clock;
  const MpiSession session(choice_of(recovery.c_str()));
  leave(file_of(folder, "began", session.rank()));
  const auto deadline = Clock::now() + kRankSecondsMax;
  while (count(folder, "began") < static_cast<int>(kRanks) && Clock::now() < deadline) {
    std::this_thread::sleep_for(kLook);
  }
  if (is_in(victims, session.rank())) std::raise(SIGKILL);
  std::signal(SIGTERM, SIG_IGN);
  std::this_thread::sleep_for(kLifeAfterDeath);
  leave(file_of(folder, "lived", session.rank()));
  while (ending == "stay" && Clock::now() < deadline) std::this_thread::sleep_for(kLook);
  // One that is alone would hang in MPI_Finalize (4.1.4).
  _exit(0);
}

struct Launch {
  int status = -1;
  std::string said;
  std::optional<LostRank> lost;
  int lived = 0;
  bool told_to_end = false;
};

std::string recovery = "auto";

Launch launch(const std::filesystem::path& folder, bool survive, const std::string& victims,
              const std::string& ending) {
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto command =
      mpirun_command({.ranks = kRanks, .survive = survive, .recovery = choice_of(recovery.c_str())},
                     {own_program(), folder.string(), victims, ending, recovery});
  Launch launched;
  if (!command) return launched;
  LaunchOutput output(survive ? LaunchOutput::KnownNoise::kHide : LaunchOutput::KnownNoise::kShow);
  const int survivors = static_cast<int>(kRanks - victims.size());
  const Watch watch{
      .is_over = [&] { return count(folder, "lived") == survivors; },
      .leave = std::chrono::milliseconds(2000),
      .on_terminate =
          [&] {
            launched.told_to_end = true;
            output.hide_messages();
          },
      .on_error_output =
          [&](std::string_view bytes) {
            launched.said += bytes.empty() ? output.release() : output.take(bytes);
          },
  };
  launched.status = run_in_foreground(*command, {}, watch).value_or(-1);
  launched.said += output.release();
  launched.lost = output.lost();
  launched.lived = count(folder, "lived");
  return launched;
}

int failures = 0;

void expect(bool good, const std::string& what, const Launch& launched) {
  if (good) return;
  ++failures;
  std::fprintf(stderr, "FAILED: %s: mpirun returned %d, %d lived, it was%s told to end, said: %s\n",
               what.c_str(), launched.status, launched.lived, launched.told_to_end ? "" : " not",
               launched.said.c_str());
}

int check_all(const std::filesystem::path& folder) {
  for (const std::string victims : {"2", "0", "12", "012", "123"}) {
    const Launch launched = launch(folder, true, victims, "leave");
    const int survivors = static_cast<int>(kRanks - victims.size());
    expect(launched.lived == survivors, "survivors of " + victims + " live on", launched);
    expect(launched.status == 0 && !launched.told_to_end, "mpirun ends after " + victims, launched);
    expect(launched.said.empty(), "nothing is said of " + victims, launched);
  }
  const Launch gone = launch(folder, true, "0123", "leave");
  expect(gone.lived == 0 && !gone.told_to_end, "mpirun ends when all are dead", gone);
  const Launch stays = launch(folder, true, "2", "stay");
  expect(stays.lived == 3 && stays.told_to_end, "an mpirun that stays is ended", stays);
  expect(stays.said.empty(), "nothing is said of an mpirun that was ended", stays);
  for (const std::string victim : {"2", "0"}) {
    const Launch ended = launch(folder, false, victim, "leave");
    expect(ended.lived == 0 && ended.status != 0, "without survive " + victim + " ends all", ended);
    expect(
        ended.lost && std::to_string(ended.lost->rank) == victim && ended.lost->signal == SIGKILL,
        "the lost rank is named", ended);
  }
  std::filesystem::remove_all(folder);
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace regroup

int main(int argc, char** argv) {
  if (regroup::launched_rank() && argc == 5) {
    return regroup::be_a_rank(argv[1], argv[2], argv[3], argv[4]);
  }
  if (argc == 2) regroup::recovery = argv[1];
  std::string pattern =
      (std::filesystem::temp_directory_path() / "regroup-survivors-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return 1;
  return regroup::check_all(pattern);
}
