// What the doctor says of a machine, from facts made by hand; and one look at the machine at hand.
#include "runtime/host/doctor.hpp"

#include <algorithm>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "runtime/host/hwloc_wrapper.hpp"

namespace regroup {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A healthy cluster node: every check is ok.
DoctorFacts healthy() {
  DoctorFacts facts;
  facts.libraries = {.mpi = "Open MPI v4.1.4, package: Example", .hdf5 = "1.10.8, serial"};
  facts.mpirun = DoctorFacts::Mpirun{
      .path = "/usr/bin/mpirun",
      .version_output = "mpirun (Open MPI) 4.1.4\n\nReport bugs to ...\n",
      .info_output = "package:Example\noptions:ft_support:\"no (checkpoint thread: no)\"\n",
      .troubles = {}};
  facts.hwloc_version = "2.8.0";
  facts.node = Machine::from_synthetic("pack:2 core:8 pu:2")->allowed();
  facts.slurm = {.sbatch_path = "/usr/bin/sbatch",
                 .scontrol_path = "/usr/bin/scontrol",
                 .version = "slurm-wlm 22.05.8",
                 .job_id = std::nullopt};
  facts.current_directory = DoctorFacts::FileSystem{.path = "/scratch/ada",
                                                    .type = 0x0BD00BD0,
                                                    .bytes_total = 100ULL << 40,
                                                    .bytes_free = 50ULL << 40,
                                                    .writable = true};
  facts.shared_memory = DoctorFacts::FileSystem{.path = "/dev/shm",
                                                .type = 0x01021994,
                                                .bytes_total = 32ULL << 30,
                                                .bytes_free = 32ULL << 30,
                                                .writable = true};
  facts.open_files = {.soft = 65536, .hard = 65536};
  return facts;
}

DoctorCheck check_of(const DoctorFacts& facts, const std::string& name) {
  const DoctorReport report = judge(facts);
  const auto found = std::find_if(report.checks.begin(), report.checks.end(),
                                  [&](const DoctorCheck& check) { return check.name == name; });
  EXPECT_NE(found, report.checks.end()) << name;
  return found == report.checks.end() ? DoctorCheck{} : *found;
}

TEST(Doctor, AHealthyNodeNeedsNothing) {
  const DoctorReport report = judge(healthy());

  EXPECT_TRUE(report.ready());
  for (const DoctorCheck& check : report.checks) {
    EXPECT_EQ(check.status, CheckStatus::kOk) << check.name << ": " << check.advice;
    EXPECT_FALSE(check.found.empty()) << check.name;
  }
}

TEST(Doctor, EveryShortcomingHasAdvice) {
  DoctorFacts facts;  // nothing found at all
  facts.node = std::unexpected(std::string("hwloc cannot start"));
  facts.current_directory = std::unexpected(std::string(".: gone"));
  facts.shared_memory = std::unexpected(std::string("/dev/shm: gone"));

  const DoctorReport report = judge(facts);

  EXPECT_FALSE(report.ready());
  for (const DoctorCheck& check : report.checks) {
    EXPECT_TRUE(check.status == CheckStatus::kOk || !check.advice.empty()) << check.name;
  }
}

TEST(Doctor, AKernelWithoutDeathNoticesIsWarnedOf) {
  DoctorFacts facts = healthy();
  facts.notices_problem = "futex_waitv: Function not implemented";

  EXPECT_EQ(check_of(facts, "death notices").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "death notices").found, HasSubstr("futex_waitv"));
  EXPECT_TRUE(judge(facts).ready());
}

TEST(Doctor, MissingMpirunIsNamedAndNotReady) {
  DoctorFacts facts = healthy();
  facts.mpirun = std::nullopt;

  EXPECT_EQ(check_of(facts, "mpirun").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(facts, "mpirun").advice, HasSubstr("openmpi-bin"));
  EXPECT_FALSE(judge(facts).ready());
}

TEST(Doctor, MpirunOfAnotherVersionThanTheLibraryIsWarnedOf) {
  DoctorFacts facts = healthy();
  facts.mpirun->version_output = "mpirun (Open MPI) 5.0.7\n";

  EXPECT_EQ(check_of(facts, "mpirun").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "mpirun").advice, HasSubstr("4.1.4"));
}

TEST(Doctor, AnotherMpisMpirunIsWarnedOf) {
  DoctorFacts facts = healthy();
  facts.mpirun->version_output = "HYDRA build details:\n    Version: 4.0.2\n";

  EXPECT_EQ(check_of(facts, "mpirun").status, CheckStatus::kWarning);
}

TEST(Doctor, AnMpirunThatHangsIsTold) {
  DoctorFacts facts = healthy();
  facts.mpirun->version_output.clear();
  facts.mpirun->troubles = {"mpirun: no answer within 3000 ms; killed"};

  EXPECT_EQ(check_of(facts, "mpirun").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "mpirun").advice, HasSubstr("no answer"));
}

TEST(Doctor, RecoveryBackendFollowsTheMpi) {
  DoctorFacts stock = healthy();
  DoctorFacts ulfm = healthy();
  ulfm.libraries.mpi_has_ulfm = true;
  ulfm.mpirun->version_output = "mpirun (Open MPI) 5.0.7\n";
  ulfm.mpirun->info_output =
      "options:mpi_ext:affinity, cuda, ftmpi\noptions:ft_support:yes\noptions:ft_mpi_support:yes\n";
  DoctorFacts without = ulfm;
  without.mpirun->info_output = "options:ft_support:no\noptions:ft_mpi_support:no\n";
  DoctorFacts silent = ulfm;
  silent.mpirun->info_output = "";

  DoctorFacts chosen = ulfm;
  chosen.recovery = RecoveryChoice::kStock;
  DoctorFacts unmet = healthy();
  unmet.recovery = RecoveryChoice::kUlfm;
  DoctorFacts built_before = ulfm;
  built_before.libraries.mpi_has_ulfm = false;

  EXPECT_THAT(check_of(stock, "recovery").found, HasSubstr("own protocol"));
  EXPECT_THAT(check_of(stock, "recovery").found, HasSubstr("no ULFM"));
  EXPECT_EQ(check_of(stock, "recovery").status, CheckStatus::kOk);
  EXPECT_THAT(check_of(chosen, "recovery").found, HasSubstr("stock: own protocol, as chosen"));
  EXPECT_EQ(check_of(chosen, "recovery").status, CheckStatus::kOk);
  EXPECT_EQ(check_of(unmet, "recovery").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(unmet, "recovery").found, HasSubstr("refused"));
  EXPECT_THAT(check_of(ulfm, "recovery").found, HasSubstr("ulfm: native"));
  EXPECT_EQ(check_of(ulfm, "recovery").status, CheckStatus::kOk);
  EXPECT_THAT(check_of(without, "recovery").found, HasSubstr("own protocol"));
  EXPECT_EQ(check_of(without, "recovery").status, CheckStatus::kWarning);
  EXPECT_EQ(check_of(built_before, "recovery").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(silent, "recovery").found, HasSubstr("native"));
  EXPECT_EQ(check_of(silent, "recovery").status, CheckStatus::kOk);
}

TEST(Doctor, RootNeedsTheVariables) {
  DoctorFacts facts = healthy();
  facts.is_root = true;

  EXPECT_EQ(check_of(facts, "user").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "user").advice, HasSubstr("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"));
  facts.may_run_as_root = true;
  EXPECT_EQ(check_of(facts, "user").status, CheckStatus::kOk);
}

TEST(Doctor, RestrictedCpusAndQuotasAreWarnedOf) {
  DoctorFacts restricted = healthy();
  restricted.node = restrict_topology(*restricted.node, CpuList{0, 1, 2, 3});
  DoctorFacts quota = healthy();
  quota.node->cpu_quota = 2.0;

  EXPECT_EQ(check_of(restricted, "cpus").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(restricted, "cpus").found, HasSubstr("4 of 32 (cpus 0-3)"));
  EXPECT_EQ(check_of(quota, "cpus").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(quota, "cpus").found, HasSubstr("2.0 cpus"));
}

TEST(Doctor, CudaIsJudgedByBuildDriverAndDevices) {
  DoctorFacts idle_gpu = healthy();
  idle_gpu.nvidia_driver = "550.54.15";
  DoctorFacts no_gpu = healthy();
  no_gpu.built_with_cuda = true;
  no_gpu.devices.reason = "no CUDA device: no driver";
  DoctorFacts gpu = no_gpu;
  gpu.devices = {.devices = {CudaDevice{}}, .reason = {}};

  EXPECT_EQ(check_of(idle_gpu, "CUDA").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(idle_gpu, "CUDA").advice, HasSubstr("REGROUP_CUDA=ON"));
  EXPECT_EQ(check_of(no_gpu, "CUDA").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(no_gpu, "CUDA").found, HasSubstr("no driver"));
  EXPECT_TRUE(judge(no_gpu).ready()) << "a GPU is never needed";
  EXPECT_EQ(check_of(gpu, "CUDA").status, CheckStatus::kOk);
}

TEST(Doctor, SlurmIsOptionalOutsideAJob) {
  DoctorFacts facts = healthy();
  facts.slurm = {};

  EXPECT_EQ(check_of(facts, "Slurm").status, CheckStatus::kMissing);
  EXPECT_TRUE(judge(facts).ready());
  facts.slurm.job_id = "4711";
  EXPECT_EQ(check_of(facts, "Slurm").status, CheckStatus::kWarning);
}

TEST(Doctor, DirectoriesThatWillDisappointAreWarnedOf) {
  const auto status_with = [](std::uint64_t type, std::uint64_t bytes_free, bool writable) {
    DoctorFacts facts = healthy();
    facts.current_directory->type = type;
    facts.current_directory->bytes_free = bytes_free;
    facts.current_directory->writable = writable;
    return check_of(facts, "current directory");
  };
  constexpr std::uint64_t kPlenty = 100ULL << 30;

  EXPECT_EQ(status_with(0xEF53, kPlenty, true).status, CheckStatus::kOk);
  EXPECT_THAT(status_with(0xEF53, kPlenty, true).advice, HasSubstr("shared"));
  EXPECT_EQ(status_with(0x6969, kPlenty, true).status, CheckStatus::kWarning);
  EXPECT_EQ(status_with(0x01021994, kPlenty, true).status, CheckStatus::kWarning);
  EXPECT_EQ(status_with(0xEF53, 1 << 20, true).status, CheckStatus::kWarning);
  EXPECT_EQ(status_with(0xEF53, kPlenty, false).status, CheckStatus::kWarning);
  EXPECT_THAT(status_with(0xFFFFFFFF9123683E, kPlenty, true).found, HasSubstr("btrfs"));
}

TEST(Doctor, LittleSharedMemoryAndFewOpenFilesAreWarnedOf) {
  DoctorFacts facts = healthy();
  facts.shared_memory->bytes_free = 64 << 20;
  facts.open_files.soft = 256;

  EXPECT_EQ(check_of(facts, "shared memory").status, CheckStatus::kWarning);
  EXPECT_EQ(check_of(facts, "open files").status, CheckStatus::kWarning);
}

TEST(Doctor, TextStaysWithinTheWidth) {
  DoctorFacts facts = healthy();
  facts.mpirun = std::nullopt;

  const std::string text = doctor_text(judge(facts), 80);

  EXPECT_THAT(text, HasSubstr("missing  mpirun             not on PATH\n"));
  EXPECT_THAT(text, HasSubstr("-> install openmpi-bin"));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
}

TEST(Doctor, JsonHasEveryCheck) {
  const DoctorReport report = judge(healthy());

  const nlohmann::ordered_json json = doctor_json(report);

  EXPECT_EQ(json["ready"], true);
  EXPECT_EQ(json["checks"].size(), report.checks.size());
  EXPECT_EQ(json["checks"][0]["name"], "MPI library");
  EXPECT_EQ(json["checks"][0]["status"], "ok");
}

TEST(Doctor, LooksAtThisMachineWithoutFailing) {
  const DoctorReport report =
      examine({.mpi = "Open MPI v4.1.4", .hdf5 = "1.10.8"}, RecoveryChoice::kAuto);

  EXPECT_EQ(report.checks.size(), 13U);
  for (const DoctorCheck& check : report.checks) EXPECT_FALSE(check.found.empty()) << check.name;
}

}  // namespace
}  // namespace regroup
